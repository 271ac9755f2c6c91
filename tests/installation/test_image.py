"""The images of the Dockerfile and the services of compose.yaml fit each other and our command."""

from __future__ import annotations

import json
import re

from ruamel.yaml import YAML

from embedding_integrity.doors.admin import parser
from tests.drivers.runs import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
SERVICES = YAML(typ="safe").load(REPOSITORY / "compose.yaml")["services"]


def test_the_endpoint_alone_is_asked_for_its_health_and_where_it_listens() -> None:
    stages = dict(
        re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    )
    assert SERVICES["admin"]["build"]["target"] in stages
    commands = [json.loads(found) for found in re.findall(r"CMD (\[.*\])", stages["admin"])]
    (name, *health), served = commands
    assert (name, health[0], served[0]) == ("embedding-integrity", "admin", "admin")
    asked, serving = parser().parse_args(health[1:]), parser().parse_args(served[1:])
    assert asked.health
    assert asked.port == serving.port
    assert f"EXPOSE {serving.port}\n" in stages["admin"]
    assert SERVICES["admin"]["ports"][0].endswith(f":{serving.port}")
    last = DOCKERFILE.rpartition("FROM ")[2]
    assert "HEALTHCHECK NONE" in last
    assert "healthcheck" not in SERVICES["checks"]
    assert SERVICES["checks"]["build"] == "."


def test_images_are_pinned_and_services_wait_for_a_healthy_database() -> None:
    for service in SERVICES.values():
        assert re.search(r":\d+\.\d+\.\d+", service["image"]), service["image"]
        assert service["container_name"].startswith("embedding-integrity")
        waits = service.get("depends_on", {"database": {"condition": "service_healthy"}})
        assert waits == {"database": {"condition": "service_healthy"}}
    assert SERVICES["database"]["healthcheck"]["test"][1] == "pg_isready"
