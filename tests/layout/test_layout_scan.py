"""Mains, scans and their attributes: validation, numbering, dict and TOML forms, equality."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usidstream.errors import LayoutError, UsidstreamError
from usidstream.layout import (
    MAX_ATTRS_BYTES,
    Dimension,
    MainLayout,
    PositionTable,
    ScanLayout,
    check_attrs,
)


def make_main(name="Raw_Data", **changes):
    arguments = {"quantity": "Current", "units": "nA", "dtype": "float32"} | changes
    return MainLayout(name, **arguments)


def make_scan(**changes):
    arguments = {
        "positions": [Dimension("Cols", "nm", [0.0, 0.3, 0.7]), Dimension("Rows", "um", 2)],
        "mains": [
            make_main(
                spectroscopic=[
                    Dimension("Bias", "V", np.float32([-1, 0, 1, 0])),
                    Dimension.regular("Frequency", "Hz", start=3e5, step=1e3, size=5),
                ],
                attrs={"IO_rate": 4e6, "Amplifier_Gain": 9},
                chunks=(2, 10),
                shuffle=False,
            ),
            make_main("Height", dtype="int16", order="columns", dataset="Raw"),
        ],
        "attrs": {
            "Instrument": "Atomic Force Microscope",
            "on": True,
            "tags": ["a", "µ"],
            "gains": [1, 2, 3],
            "offsets": [0.5, float("nan")],
            "limit": float("inf"),
        },
        "pixel_time_s": 0.01,
    } | changes
    return ScanLayout(**arguments)


def field_of(call):
    with pytest.raises(LayoutError) as caught:
        call()
    assert caught.value.hint
    return caught.value.field, caught.value.code


def test_shapes_and_names():
    scan = make_scan()
    assert scan.name == "Measurement"
    assert (scan.n_positions, scan.position_shape) == (6, (3, 2))
    assert scan.shape("Raw_Data") == (6, 20)
    assert scan.shape("Height") == (6, 1)
    assert scan.nbytes == 6 * sum(main.row_nbytes for main in scan.mains)
    main = scan.main("Raw_Data")
    assert (main.dataset, main.np_dtype, main.row_nbytes) == ("Raw_Data", np.dtype("<f4"), 80)
    assert scan.main("Height").dataset == "Raw"
    assert scan.main("Height").spectroscopic[0].name == "Single_Step"


def test_unknown_main_names_the_nearest():
    with pytest.raises(UsidstreamError) as caught:
        make_scan().main("Heigth")
    assert caught.value.code == "unknown_main"
    assert "'Height'" in caught.value.hint


def test_table_of_positions():
    scan = make_scan(positions=PositionTable(["X", "Y"], ["m", "m"], np.zeros((7, 2))))
    assert (scan.n_positions, scan.position_shape) == (7, (7,))


@pytest.mark.parametrize("table", [None, PositionTable(["X"], ["m"], np.float32([[1], [5]]))])
def test_dict_and_toml_are_exact(table):
    scan = make_scan(positions=table) if table else make_scan()
    assert ScanLayout.from_dict(scan.to_dict()) == scan
    assert ScanLayout.loads(scan.dumps()) == scan
    assert ScanLayout.loads(scan.dumps()).dumps() == scan.dumps()


def test_arrays_stay_arrays_in_the_dict_and_the_rest_is_plain():
    plain = make_scan().to_dict()
    assert isinstance(plain["positions"][0]["values"], np.ndarray)
    assert isinstance(plain["attrs"]["gains"], np.ndarray)
    json.dumps(plain, default=np.ndarray.tolist)


def test_from_dict_leaves_its_argument_alone():
    plain = make_scan().to_dict()
    before = json.dumps(plain, default=np.ndarray.tolist)
    ScanLayout.from_dict(plain)
    assert json.dumps(plain, default=np.ndarray.tolist) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Other"},
        {"positions": [Dimension("Cols", "nm", 3), Dimension("Rows", "um", 2)]},
        {"positions": PositionTable(["X"], ["m"], np.zeros((6, 1)))},
        {"mains": [make_main()]},
        {"attrs": {}},
        {"pixel_time_s": None},
    ],
)
def test_any_difference_is_seen(changes):
    assert make_scan() == make_scan()
    assert make_scan() != make_scan(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": "Voltage"}, {"units": "V"}, {"dtype": "float64"}, {"dataset": "Other"},
        {"spectroscopic": [Dimension("Bias", "V", 3)]}, {"order": "columns"}, {"chunks": (1, 1)},
        {"compression": "none"}, {"shuffle": True}, {"attrs": {"a": 1}},
    ],
)  # fmt: skip
def test_any_difference_of_a_main_is_seen(changes):
    assert make_main() == make_main()
    assert make_main() != make_main(**changes)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": float("nan")}, {"a": float("nan")}, True),
        ({"a": [1, 2]}, {"a": np.int64([1, 2])}, True),
        ({"a": [1.5]}, {"a": np.float32([1.5])}, True),
        ({"a": [1, 2]}, {"a": [1, 3]}, False),
        ({"a": ["x"]}, {"a": "x"}, False),
        ({"a": 1}, {"b": 1}, False),
    ],
)
def test_equality_of_attributes(one, other, same):
    assert (make_main(attrs=one) == make_main(attrs=other)) is same


@pytest.mark.parametrize(
    "name", ["a-b", " a", "a ", "a/b", "a\0b", "..", ".", "", "x" * 300, "a\nb", 3]
)
def test_names_of_groups_and_datasets(name):
    assert field_of(lambda: make_scan(name=name)) == ("name", "bad_name")
    assert field_of(lambda: make_main(name)) == ("name", "bad_name")
    assert field_of(lambda: make_main(dataset=name)) == ("dataset", "bad_name")


def test_names_count_bytes():
    assert make_main("µ" * 127).name
    assert field_of(lambda: make_main("µ" * 128)) == ("name", "bad_name")


def test_names_of_the_datasets_beside_a_main_are_refused():
    assert field_of(lambda: make_main("Position_Indices")) == ("name", "bad_name")
    assert field_of(lambda: make_main(dataset="completed_positions")) == ("dataset", "bad_name")


@pytest.mark.parametrize(
    ("dtype", "plain", "numpy_dtype"),
    [
        ("float32", "float32", "<f4"),
        (np.uint16, "uint16", "<u2"),
        (">c8", "complex64", "<c8"),
        (float, "float64", "<f8"),
        ([["re", "f4"], ["n", ">u2"]], [["re", "float32"], ["n", "uint16"]], "<f4,<u2"),
        (np.dtype([("re", ">f8")], align=True), [["re", "float64"]], "<f8,"),
    ],
)
def test_dtypes(dtype, plain, numpy_dtype):
    main = make_main(dtype=dtype)
    assert main.dtype == plain
    assert main.np_dtype.itemsize == np.dtype(numpy_dtype).itemsize
    assert make_main(dtype=main.dtype) == main
    assert ScanLayout.loads(make_scan(mains=[main]).dumps()).mains[0] == main


@pytest.mark.parametrize(
    "dtype",
    [
        bool, "O", "S5", "U3", "M8[s]", "V8", None, "no such", np.longdouble, [], [["a"]], 5, {},
        [["a", "f4"], ["a", "f4"]], [["", "f4"]], [["a", [["b", "f4"]]]], "(2,)f4", "f4,(2,)i4",
        [["a", "f4", 2]], [[f"f{i}", "i1"] for i in range(257)],
    ],
)  # fmt: skip
def test_bad_dtypes(dtype):
    field, code = field_of(lambda: make_main(dtype=dtype))
    assert field.startswith("dtype")
    assert code in {"bad_layout", "bad_name"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"quantity": ""}, "quantity"),
        ({"quantity": None}, "quantity"),
        ({"units": 5}, "units"),
        ({"order": "row"}, "order"),
        ({"compression": "gz"}, "compression"),
        ({"compression": None}, "compression"),
        ({"shuffle": "yes"}, "shuffle"),
        ({"shuffle": True, "compression": "none"}, "shuffle"),
        ({"chunks": 5}, "chunks"),
        ({"chunks": (1, 2, 3)}, "chunks"),
        ({"chunks": (0, 2)}, "chunks[0]"),
        ({"chunks": (2, 1.5)}, "chunks[1]"),
        ({"chunks": (2**20, 2**20)}, "chunks"),
        ({"spectroscopic": []}, "spectroscopic"),
        ({"spectroscopic": Dimension("X", "", 2)}, "spectroscopic"),
        ({"spectroscopic": [3]}, "spectroscopic[0]"),
        (
            {"spectroscopic": [Dimension("X", "", 2), Dimension("X", "", 3)]},
            "spectroscopic[1].name",
        ),
        ({"attrs": 5}, "attrs"),
        ({"attrs": {"": 5}}, "attrs"),
    ],
)
def test_bad_mains(changes, field):
    assert field_of(lambda: make_main(**changes))[0] == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"positions": []}, "positions"),
        ({"positions": None}, "positions"),
        ({"positions": [Dimension("X", "", 2), Dimension("X", "", 3)]}, "positions[1].name"),
        ({"mains": []}, "mains"),
        ({"mains": make_main()}, "mains"),
        ({"mains": [3]}, "mains[0]"),
        ({"mains": [make_main(), make_main()]}, "mains[1].name"),
        ({"pixel_time_s": 0}, "pixel_time_s"),
        ({"pixel_time_s": "1"}, "pixel_time_s"),
        ({"pixel_time_s": float("nan")}, "pixel_time_s"),
        ({"positions": [Dimension(f"D{i}", "", 2**31) for i in range(3)]}, "mains[0]"),
    ],
)
def test_bad_scans(changes, field):
    assert field_of(lambda: make_scan(**changes))[0] == field


def test_overflow_of_a_product_beyond_64_bits_is_seen():
    positions = [Dimension(f"D{i}", "", 2**32 - 1) for i in range(2)]
    spectroscopic = [Dimension(f"S{i}", "", 2**16) for i in range(4)]
    with pytest.raises(LayoutError, match=r"2\*\*62") as caught:
        make_scan(positions=positions, mains=[make_main(spectroscopic=spectroscopic)])
    assert caught.value.field == "mains[0]"


@pytest.mark.parametrize(
    ("change", "field", "code", "hint"),
    [
        (lambda d: d.update(position=1), "position", "bad_layout", "'positions'"),
        (lambda d: d.update(open_ended=True), "open_ended", "unsupported_feature", "out"),
        (lambda d: d.pop("mains"), "mains", "bad_layout", "Add"),
        (lambda d: d.update(mains={}), "mains", "bad_layout", "[[mains]]"),
        (lambda d: d.update(positions=5), "positions", "bad_layout", "list"),
        (lambda d: d.update(positions={"labels": []}), "positions.units", "bad_layout", "Add"),
        (lambda d: d["mains"][1].update(unit="m"), "mains[1].unit", "bad_layout", "'units'"),
        (
            lambda d: d["mains"][1].update(positions=[]),
            "mains[1].positions",
            "unsupported_feature",
            "out",
        ),
        (
            lambda d: d["mains"][0]["spectroscopic"][0].update(values=[1, float("inf")]),
            "mains[0].spectroscopic[0].values",
            "bad_layout",
            "finite",
        ),
        (
            lambda d: d["mains"][0]["spectroscopic"].append(7),
            "mains[0].spectroscopic[2]",
            "bad_layout",
            "dict",
        ),
        (
            lambda d: d["mains"][0]["attrs"].update(a=[1, "b"]),
            "mains[0].attrs.a",
            "bad_attribute",
            "one kind",
        ),
    ],
)
def test_errors_name_the_whole_path(change, field, code, hint):
    plain = make_scan().to_dict()
    change(plain)
    with pytest.raises(LayoutError) as caught:
        ScanLayout.from_dict(plain)
    assert (caught.value.field, caught.value.code) == (field, code)
    assert hint in caught.value.hint
    assert str(caught.value).startswith(f"{field}: ")


@pytest.mark.parametrize("whole", [None, 5, [], "text"])
def test_a_layout_must_be_a_dict(whole):
    assert field_of(lambda: ScanLayout.from_dict(whole))[0] == "layout"


@pytest.mark.parametrize(
    ("value", "checked"),
    [
        ("", ""),
        (np.float32(0.5), 0.5),
        (np.int64(-3), -3),
        (np.bool_(True), True),
        (2**64 - 1, 2**64 - 1),
        ((1, 2.5), [1.0, 2.5]),
        ([], []),
        ([True, False], [True, False]),
        (["a", ""], ["a", ""]),
        (np.array([1, 2], dtype=">u2"), [1, 2]),
        (np.array([1j]), [1j]),
    ],
)
def test_attribute_values(value, checked):
    kept = check_attrs({"a": value})["a"]
    assert np.asarray(kept).tolist() == checked
    assert check_attrs({"a": kept}).keys() == {"a"}


@pytest.mark.parametrize(
    "value",
    [
        None, b"bytes", 1j, {"b": 1}, [[1]], [1, "a"], [True, 1], 2**64, -(2**63) - 1, [2**63, -1],
        [2**63], np.zeros((2, 2)), np.array(["a"]), np.array([None]), "a\0b", ["a\0b"], object(),
        np.zeros(1, np.longdouble), "\ud800",
    ],
)  # fmt: skip
def test_bad_attribute_values(value):
    with pytest.raises(LayoutError) as caught:
        check_attrs({"a": value})
    assert caught.value.code == "bad_attribute"
    assert caught.value.field.startswith("attrs.a")


@pytest.mark.parametrize("name", ["", " x", "x\n", "x" * 256, "a/b", "a\0b", 5])
def test_bad_attribute_names(name):
    with pytest.raises(LayoutError) as caught:
        check_attrs({name: 1})
    assert caught.value.code == "bad_attribute"


def test_attributes_of_all_mains_count_together():
    half = {"a": "x" * (MAX_ATTRS_BYTES // 2)}
    mains = [make_main(f"M{i}", attrs=half) for i in range(2)]
    make_scan(mains=mains[:1], attrs={})
    assert field_of(lambda: make_scan(mains=mains, attrs={})) == ("attrs", "bad_attribute")
    assert field_of(lambda: check_attrs({"a": "x" * MAX_ATTRS_BYTES}))[1] == "bad_attribute"


def test_toml_file(tmp_path):
    path = tmp_path / "scan.toml"
    path.write_text(make_scan().dumps(), encoding="utf-8")
    assert ScanLayout.load(path) == make_scan()


@pytest.mark.parametrize(
    "content", [b"name = ", b"\xff", b"a = " + b"9" * 5000, b"a = " + b"[" * 9999]
)
def test_a_bad_toml_file_is_named(tmp_path, content):
    path = tmp_path / "scan.toml"
    path.write_bytes(content)
    with pytest.raises(LayoutError, match=r"scan\.toml"):
        ScanLayout.load(path)


def test_a_missing_toml_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        ScanLayout.load(tmp_path / "none.toml")


def test_complex_attributes_do_not_go_into_toml():
    scan = make_scan(attrs={"poles": np.array([1j])})
    assert ScanLayout.from_dict(scan.to_dict()) == scan
    assert field_of(scan.dumps)[0] == "attrs.poles"


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(data=st.data())
def test_whatever_comes_is_a_layout_or_a_layout_error(data):
    plain = make_scan().to_dict()
    place = data.draw(st.sampled_from(["scan", "main", "dimension", "spectroscopic"]))
    table = {
        "scan": plain,
        "main": plain["mains"][0],
        "dimension": plain["positions"][0],
        "spectroscopic": plain["mains"][0]["spectroscopic"][1],
    }[place]
    table[data.draw(st.sampled_from(sorted(table)))] = data.draw(ANYTHING)
    try:
        scan = ScanLayout.from_dict(plain)
    except LayoutError:
        return
    assert ScanLayout.from_dict(scan.to_dict()) == scan
