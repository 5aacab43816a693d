"""A Wasmer registry for tests. graphql-core parses, validates and executes its queries.

    registry.py PORT FIXTURE LOG

FIXTURE is a JSON file. Its `packages` are by name and version; each version has `isArchived`, and a
distribution under `V2` and `V3`. If FIXTURE has a `token`, clients must send that token.

The server writes one line of JSON to LOG for each request. It serves the files of FIXTURE's directory
under /files/.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from graphql import build_schema, graphql_sync

PORT, FIXTURE, LOG = int(sys.argv[1]), sys.argv[2], sys.argv[3]
with open(os.path.join(os.path.dirname(__file__), "schema.graphql"), encoding="utf-8") as file:
    SCHEMA = build_schema(file.read())


class PackageVersion:
    def __init__(self, version, fixture):
        self.version, self.fixture = version, fixture
        self.isArchived = fixture.get("isArchived", False)

    def distribution(self, _info, version=None):
        return {"downloadUrl": "http://127.0.0.1:1/none", **self.fixture.get(version or "V3", {})}


class Root:
    def getPackageVersion(self, _info, name, version):
        with open(FIXTURE, encoding="utf-8") as file:
            versions = json.load(file)["packages"].get(name, {})
        if version == "latest":
            version = max(versions, default=None)
        return PackageVersion(version, versions[version]) if version in versions else None


class Handler(BaseHTTPRequestHandler):
    def record(self):
        with open(LOG, "a", encoding="utf-8") as log:
            log.write(json.dumps({"path": self.path, "authorization": self.headers.get("authorization")}) + "\n")

    def reply(self, status, body, media_type):
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.record()
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with open(FIXTURE, encoding="utf-8") as file:
            token = json.load(file).get("token")
        if token and self.headers.get("authorization") != f"Bearer {token}":
            # To a client without the token, a private package does not exist.
            answer = {"data": {"getPackageVersion": None}}
        else:
            result = graphql_sync(
                SCHEMA,
                request["query"],
                Root(),
                variable_values=request.get("variables"),
                operation_name=request.get("operationName"),
            )
            answer = result.formatted
        self.reply(200, json.dumps(answer).encode(), "application/json")

    def do_GET(self):
        self.record()
        name = os.path.basename(self.path.split("?")[0])
        try:
            with open(os.path.join(os.path.dirname(FIXTURE), name), "rb") as file:
                self.reply(200, file.read(), "application/webc")
        except OSError:
            self.reply(404, b"", "text/plain")

    def log_message(self, *_arguments):
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
