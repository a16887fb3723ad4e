"""The data flow of one run of a model in a form that does not depend on its framework."""
