"""Run units of work on an executor: a process pool or a Dask cluster.

``executor`` sends chunks and receives their outcomes; ``dask_cluster`` chooses the workers that may run a target.
"""
