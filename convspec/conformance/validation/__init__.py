"""Check an adapter against the contract: ``validate`` runs the rules of ``static_checks`` and ``runtime_checks``."""
