"""What a run found, as text for people and as files for programs."""
