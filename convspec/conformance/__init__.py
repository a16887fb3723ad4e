"""The conformance suite: checks, and the runner that takes cases through adapters in processes of their own."""
