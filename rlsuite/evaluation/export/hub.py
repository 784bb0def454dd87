"""Uploads and downloads saved agents, as folders of `rlsuite export --format folder`, to and from a model hub.

`huggingface-hub` does the transfer; its environment variables apply, such as HF_TOKEN and HF_ENDPOINT.
"""

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from rlsuite.core.errors import RlsuiteError, UsageError, one_line
from rlsuite.core.files import writing
from rlsuite.evaluation.export.model_card import write_folder
from rlsuite.evaluation.saved_agent import Saved

# The files that our folders consist of. Nothing else is downloaded, least of all pickles and code.
FILES = ("*.json", "*.yaml", "*.md", "*.safetensors", "*.mp4", "*/COMPLETE")


def push(path: Path, repo: str, private: bool = False, endpoint: str | None = None) -> str:
    """Uploads a run, a checkpoint or `pretrained:NAME` to the hub as repository `repo`, "user/name"; returns its address.

    UsageError without `huggingface-hub` or for a bad name, RlsuiteError if the hub refuses or does not answer.
    """
    hub = _hub(repo)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(path, Path(folder), repo.split("/")[1])
        try:
            api = hub.HfApi(endpoint=endpoint, library_name="rlsuite")
            api.create_repo(repo, private=private, exist_ok=True)
            if private and not api.repo_info(repo).private:
                raise RlsuiteError("the repository exists and is public: make it private on the hub, or leave --private out")
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload by rlsuite")
            return f"{api.endpoint}/{repo}"
        except Exception as error:  # of HTTP, of the hub, of the network
            raise RlsuiteError(f"{repo} was not sent: {one_line(error)[:300]}") from error


def pull(repo: str, out: Path, revision: str | None = None, endpoint: str | None = None) -> Saved:
    """Downloads repository `repo`, "user/name", into the new folder `out`, which is then an ordinary run folder.

    Only the files that a run consists of are downloaded, and all are checked: a folder that is damaged or not a run is deleted.
    UsageError and RlsuiteError as for `push`, CheckpointError for damage.
    """
    hub = _hub(repo)
    if out.exists():
        raise UsageError(f"{out} exists already: choose a new folder for --out")
    beside = out.with_name(f".{out.name}.partial")
    with writing(out):
        shutil.rmtree(beside, ignore_errors=True)
        try:
            try:
                hub.snapshot_download(
                    repo, revision=revision, local_dir=beside, allow_patterns=list(FILES), endpoint=endpoint, library_name="rlsuite"
                )
            except Exception as error:  # of HTTP, of the hub, of the network
                raise RlsuiteError(f"{repo} was not fetched: {one_line(error)[:300]}") from error
            shutil.rmtree(beside / ".cache", ignore_errors=True)  # its own notes about the files
            Saved(beside)
            beside.rename(out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return Saved(out)


def _hub(repo: str) -> Any:
    if not importlib.util.find_spec("huggingface_hub"):
        raise UsageError("push and pull need huggingface-hub: pip install 'rlsuite[hub]'")
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UsageError(f"{repo}: a repository is named user/name")
    import huggingface_hub

    return huggingface_hub
