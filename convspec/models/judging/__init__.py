"""Judge a port that somebody else claims to be right: ``deciding`` runs both models in processes of their own.

``draws`` makes inputs that nobody has seen, ``runners`` starts the processes (``child``, ``plain_host``) and reads what
they write as ``raw_arrays``, ``judgement`` is the answer, and ``patterns`` says on which inputs a port is wrong.
"""
