"""The documentation's site: Sphinx with MyST Markdown; it needs no network to build or to read."""

from recsys.runtime.build import version as built

project = "recsys"
version = release = built()
project_copyright = ""
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

# Links such as `page.md#a-heading` are checked against the headings of that page.
myst_heading_anchors = 3
# A word such as `localhost:4040` in the text stays text.
myst_url_schemes = {"http": None, "https": None, "mailto": None}

html_theme = "furo"
html_title = "recsys"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
# What is shown of a shell session is for copying: without the prompt and the output.
highlight_language = "text"
