"""The format that Gradescope accepts from an autograder, and a check of content against it."""

# gradescope-autograders.readthedocs.io, "Autograder Specifications": allowed values and types
VISIBILITIES = {"hidden", "after_due_date", "after_published", "visible"}
FORMATS = {"text", "html", "simple_format", "md", "ansi"}
TOP = {"score": float | int, "output": str, "output_format": FORMATS, "visibility": VISIBILITIES}
TOP |= {"stdout_visibility": VISIBILITIES, "tests": list}
TEST = {"name": str, "score": float | int, "max_score": float | int, "status": {"passed", "failed"}}
TEST |= {"output": str, "output_format": FORMATS, "visibility": VISIBILITIES}


def fits(content, shape):
    assert set(content) <= set(shape)
    for key, value in content.items():
        assert value in shape[key] if isinstance(shape[key], set) else isinstance(value, shape[key]), (key, value)
