"""Which known mistake gives exactly these numbers?"""

from convspec.diagnosis.catalogue import Fitted as Fitted
from convspec.diagnosis.catalogue import Mistake as Mistake
from convspec.diagnosis.catalogue import catalogue as catalogue
from convspec.diagnosis.findings import Diagnosis as Diagnosis
from convspec.diagnosis.findings import Finding as Finding
from convspec.diagnosis.layer import Layer as Layer
from convspec.diagnosis.search import diagnose as diagnose

__all__ = ["Diagnosis", "Finding", "Fitted", "Layer", "Mistake", "catalogue", "diagnose"]
