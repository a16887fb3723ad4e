"""Records: the inputs, weights and outputs of a run on disk, and the comparison of another run with them.

``array_files`` writes and reads the arrays, ``load`` reads the journals of records, ``recording`` plans the work of a
replay, and ``compare`` judges a result by the recorded one.
"""
