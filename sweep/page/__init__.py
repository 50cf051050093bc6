"""The page report.html: what a sweep's files hold (evidence), put in words and tables, and set into a template.

Its ``page.html.jinja``, ``style.css`` and ``script.js`` become part of every report, which loads nothing.
"""
