"""Reports: text for the terminal, and files as JSON, HTML, Markdown and JUnit XML."""
