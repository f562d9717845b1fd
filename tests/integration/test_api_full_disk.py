"""A disk that is full: what does not fit is refused as a whole, what was there stays, and it goes on afterwards."""
import os
import subprocess

import pytest
from client import Client, check_problem
from conftest import eventually

MASTER = "/api/v1/master"
DATASETS = "/api/v1/projects/default/datasets"


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 12 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder]).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_it_goes_on(small_disk, make_service):
    service = make_service(KONTOR_DATA_DIR=small_disk / "data").start()
    api = Client(service.port)
    kept = api.ok("POST", DATASETS, {"name": "kept"}, want=(201,))
    api.upload("default", kept["dataset_id"], "a.csv", b"a\n1\n")

    # An upload that does not fit leaves nothing.
    before = sum(f.stat().st_size for f in (small_disk / "data").rglob("*"))
    check_problem(api.upload("default", kept["dataset_id"], "big.csv", b"a\n" + b"x" * 60 + b"\n" + (b"y" * 60 + b"\n") * 400000),
                  507, "storage_full")
    assert [t["name"] for t in api.ok("GET", f"{DATASETS}/{kept['dataset_id']}")["tables"]] == ["a.csv"]
    assert sum(f.stat().st_size for f in (small_disk / "data").rglob("*")) < before + 4 * 1048576

    # Full to the last byte: writes are refused, reads are not.
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as f, pytest.raises(OSError):
        while True:
            f.write(b"x" * 65536)
    refused = [api.post(DATASETS, {"name": "n", "metadata": {"x": "y" * 60000}}) for _ in range(40)]
    last = refused[-1]
    check_problem(last, 507, "storage_full")
    assert {a.status for a in refused} <= {201, 507}
    made = {a.json["dataset_id"] for a in refused if a.status == 201}
    check_problem(api.post(f"{MASTER}/projects", {"project_id": "late", "project_name": "L", "customer_name": "L"}), 507, "storage_full")
    assert api.ok("GET", f"{DATASETS}/{kept['dataset_id']}")["name"] == "kept"

    filler.unlink()
    assert api.post(f"{MASTER}/projects", {"project_id": "late", "project_name": "L", "customer_name": "L"}).status == 201
    api.ok("POST", f"{DATASETS}/{kept['dataset_id']}/seal", {}, want=(200,))
    names = {d["dataset_id"] for d in api.pages(DATASETS, 100)}
    assert names == made | {kept["dataset_id"]}
    service.stop()


def test_projects_as_tars(small_disk, make_service):
    """An import and an export that do not fit leave nothing, and what is there goes on."""
    service = make_service(KONTOR_DATA_DIR=small_disk / "data").start()
    api = Client(service.port)
    made = api.ok("POST", DATASETS, {"name": "kept"}, want=(201,))
    assert api.upload("default", made["dataset_id"], "a.csv", b"a\n" + b"".join(b"%060d\n" % i for i in range(50000))).status == 200

    def left_over():
        """Files on their way: of uploads, exports, imports. (os.walk does not mind what goes meanwhile.)"""
        return [name for kind in ("uploads", "exports", "jobs") for _, _, names in os.walk(small_disk / "data" / kind) for name in names]

    def fill_up_to(left):
        eventually(lambda: not left_over(), f"nothing is on its way: {left_over()}")
        (small_disk / "filler").unlink(missing_ok=True)
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        (small_disk / "filler").write_bytes(bytes(free - left))

    def send(data):
        return api.send("POST", f"{MASTER}/projects/import?project_id=copy", raw=data, headers={"Content-Type": "application/x-tar"})

    fill_up_to(1048576)
    check_problem(api.get("/api/v1/projects/default/export"), 507, "storage_full")
    check_problem(send(bytes(2 * 1048576)), 507, "storage_full")
    fill_up_to(5 * 1048576)
    data = api.get("/api/v1/projects/default/export")
    assert data.status == 200 and len(data.body) > 3_000_000
    # It comes, and does not fit a second time beside itself.
    fill_up_to(len(data.body) + 1048576)
    check_problem(send(data.body), 507, "storage_full")
    eventually(lambda: not left_over(), "nothing is left of the import")
    assert api.get(f"{MASTER}/projects/copy").status == 404
    assert api.post(DATASETS, {"name": "more"}).status == 201
    service.stop()
