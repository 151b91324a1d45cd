"""What the ``status`` and ``watch`` commands show: reports and events as words.

``words`` says numbers, ``report`` what status prints, ``model`` what a watch knows, ``lines`` tells
it to a pipe, and ``screen`` draws it on a terminal with rich, which nothing else here needs.
"""
