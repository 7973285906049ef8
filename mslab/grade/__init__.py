"""`mslab grade`: a folder of submissions, hidden images and a rubric -> grades and feedback.

No student's code runs unless the rubric has `code` and the teacher passes --run-code. Data flows in one direction:
rubric -> submissions (hashes only) -> one sandboxed worker each (facts, logits) -> items (points) -> outputs
"""
