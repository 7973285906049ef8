"""Feedback in a browser, of every student with a hostile name or text."""

from hostile import HOSTILE, check_feedback_pages, written_once


def test_every_feedback_in_a_browser(once, new_page):
    check_feedback_pages(written_once(once), HOSTILE, new_page)
