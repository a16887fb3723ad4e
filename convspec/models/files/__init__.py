"""Models in files that are programs: ``model_file`` asks ``child``, which loads and runs the file in a child process."""
