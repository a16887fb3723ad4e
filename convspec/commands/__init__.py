"""What stands behind each command of ``convspec``."""
