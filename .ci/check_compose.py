"""Checks a compose file where there is no container engine: its syntax, and that what it refers to exists."""

import pathlib
import sys

import yaml

SERVICE_KEYS = {
    "build", "command", "depends_on", "environment", "healthcheck", "image", "network_mode", "ports", "pull_policy", "read_only",
    "restart", "stop_grace_period", "volumes",
}  # fmt: skip


def problems(path: pathlib.Path) -> list[str]:
    document = yaml.safe_load(path.read_text())
    services = document.get("services") or {}
    found = [] if services else ["no services"]
    for name, service in services.items():
        unknown = set(service) - SERVICE_KEYS
        if unknown:
            found.append(f"{name}: keys that this check does not know: {sorted(unknown)}")
        if not {"image", "build"} & set(service):
            found.append(f"{name}: neither image nor build")
        found += [f"{name}: depends on {other}, which is no service" for other in service.get("depends_on", {}) if other not in services]
        found += [f"{name}: {file} is not there" for file in mentioned_files(path.parent, service) if not file.exists()]
    return found


def mentioned_files(folder: pathlib.Path, service: dict):
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            yield folder / source
    build = service.get("build")
    if isinstance(build, dict):
        context = folder / build.get("context", ".")
        yield context / build.get("dockerfile", "Dockerfile")


if __name__ == "__main__":
    complaints = [f"{name}: {problem}" for name in sys.argv[1:] for problem in problems(pathlib.Path(name))]
    sys.exit("\n".join(complaints) or 0)
