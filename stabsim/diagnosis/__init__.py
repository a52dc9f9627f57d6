"""``diagnose``: whether a network can be trained as it starts, by which number, and what would repair it."""

from stabsim.diagnosis.diagnosing import diagnose
from stabsim.diagnosis.diagnosis import Diagnosis
from stabsim.diagnosis.judging import Judgment, judge, judge_each

__all__ = ["Diagnosis", "Judgment", "diagnose", "judge", "judge_each"]
