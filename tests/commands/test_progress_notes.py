"""What a command says while its work hangs."""

from support.daemon import wait_for
from usidstream.progress import tell_notes


def test_a_note_is_told_once_and_its_end_too(capsys):
    notes = {"present": ""}
    told = []

    def has(line):
        told.extend(capsys.readouterr().err.splitlines())
        return line in told

    with tell_notes(lambda: notes["present"]):
        notes["present"] = "the disk is full"
        wait_for(lambda: has("the disk is full"), "the note")
        notes["present"] = ""
        wait_for(lambda: has("going on"), "its end")
    assert told == ["the disk is full", "going on"]


def test_quiet_is_quiet(capsys):
    with tell_notes(lambda: "the disk is full", quiet=True):
        pass
    assert capsys.readouterr().err == ""
