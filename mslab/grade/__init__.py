"""`mslab grade`: a folder of submissions, hidden images and a rubric -> grades, feedback, and nothing else.

No line of a student's code runs, unless the rubric has `code` and the teacher says --run-code. Data goes one way:
grading: rubric -> submissions (hashes alone) -> a sandboxed worker each (facts, logits) -> items (points) -> outputs
"""
