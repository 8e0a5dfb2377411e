"""One page that people read (`python -m smt_bench report`): from a results folder to one HTML file without a network.

The way of a page: `folder` says what lies in the results folder, `details` makes a record small, `points` and `answers` say which
method for which budget, `claims` what the papers' statements came to; `fronts`, `charts` and `tunings` draw, `rows` and `markup`
make tables, and `build` puts all of it into `assets/page.html`.
"""
