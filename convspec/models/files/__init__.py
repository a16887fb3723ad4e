"""Models in files that are programs: ``model_file`` asks ``child``, a child process that loads and runs the file."""
