"""The files for clusters say what their programs understand, and commands that this version takes."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml

from rlsuite.config.loader import config_names, resolve

ROOT = Path(__file__).resolve().parents[2]
UP, JOB, SLURM = ROOT / "configs/cluster/ray-up.yaml", ROOT / "configs/cluster/kuberay-job.yaml", ROOT / "scripts/slurm.sh"
QUANTITY = re.compile(r"\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?")


def trains(command: str) -> None:
    """Every `rlsuite train ...` within resolves."""
    found = re.findall(r"rlsuite train ([^;'|]*)", command)
    assert found
    for line in found:
        words = shlex.split(line)
        if words[0] != "--resume":
            config = resolve(words[0], [word for word in words[1:] if "=" in word])
            assert config.runtime.kind == "ray"


def test_the_cluster_of_ray_up_passes_its_schema() -> None:
    config = yaml.safe_load(UP.read_text())
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config | {"max_wokers": 3}, schema)
    commands = [line.lstrip("# ") for line in UP.read_text().splitlines() if "rlsuite train" in line]
    assert len(commands) == 1
    trains(commands[0])


def container(spec: dict[str, Any]) -> dict[str, Any]:
    (only,) = spec["template"]["spec"]["containers"]
    for kind in ("limits", "requests"):
        assert all(isinstance(value, str) and QUANTITY.fullmatch(value) for value in only["resources"][kind].values())
    return dict(only)


def test_the_job_of_kuberay_has_what_its_resource_demands() -> None:
    job = yaml.safe_load(JOB.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"])
    spec = job["spec"]
    assert set(spec) <= {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec"}
    trains(spec["entrypoint"])
    cluster = spec["rayClusterSpec"]
    assert set(cluster) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    head = container(cluster["headGroupSpec"])
    volumes = {volume["name"] for volume in cluster["headGroupSpec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in head["volumeMounts"]} <= volumes
    for group in cluster["workerGroupSpecs"]:
        assert {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"} == set(group)
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert container(group)["image"] == head["image"]


@pytest.mark.integration
@pytest.mark.parametrize("resumed", [False, True])
def test_the_slurm_script_starts_a_cluster_and_the_run(tmp_path: Path, resumed: bool) -> None:
    """With stand-ins for Slurm's commands that tell what they were asked."""
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    tools, told = tmp_path / "bin", tmp_path / "told"
    tools.mkdir()
    (tools / "scontrol").write_text("#!/bin/sh\nprintf 'n1\\nn2\\nn3\\n'\n")
    (tools / "srun").write_text(
        f'#!/bin/sh\necho "$@" >> {told}\n'
        'case "$*" in\n'
        "*ip-address) echo 10.0.0.1 ;;\n"
        # as long as a run lasts, those that run behind it have come to their first line
        f'*"rlsuite train"*) until grep -q "start --address" {told} && grep -q "start --head" {told}; do sleep 0.05; done ;;\n'
        "esac\n"
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    run = tmp_path / "run"
    if resumed:
        (run / "checkpoints").mkdir(parents=True)
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_CPUS_PER_TASK": "8"}
    subprocess.run(
        ["bash", str(SLURM), "atari/apex", "runtime.collectors=4", "--run-dir", str(run)], check=True, env=env, timeout=60
    )
    lines = told.read_text().splitlines()
    assert any("-w n1 ray start --head" in line and "--node-ip-address=10.0.0.1" in line for line in lines)
    assert any("--nodes=2" in line and "-w n2,n3 ray start --address=10.0.0.1:6379" in line for line in lines)
    (train,) = [line for line in lines if "rlsuite train" in line]
    asked = f"--resume {run} runtime.collectors=4" if resumed else f"atari/apex runtime.collectors=4 --run-dir {run}"
    assert train.endswith(f"rlsuite train {asked} runtime.address=10.0.0.1:6379")


def test_cluster_files_are_no_runs() -> None:
    assert not [name for name in config_names() if name.startswith("cluster")]
