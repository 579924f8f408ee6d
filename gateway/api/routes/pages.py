"""The chat page at `/`: the files that `web/` builds, and a word where they were not built."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import gateway

PAGE_HEADERS = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            "connect-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        )
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
"""Nothing from elsewhere is loaded, and nothing that a model writes can run."""

_REVALIDATE = {"cache-control": "no-cache"}
_FOR_EVER = "public, max-age=31536000, immutable"

_NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sluice</title>
<meta name="viewport" content="width=device-width"></head><body>
<h1>The gateway works; its chat page is not built</h1>
<p>Build it with Node 20 or later and start the gateway again:</p>
<pre>cd web &amp;&amp; npm ci &amp;&amp; npm run build</pre>
<p>The API needs no page:</p>
<pre>curl http://HOST:PORT/v1/models</pre>
<p><a href="/docs">API</a> &middot; <a href="/health">Health</a></p>
</body></html>
"""


def find_page() -> Path | None:
    """The built page: inside the installed package, else in the checkout around it; None if there is none."""
    package = Path(gateway.__file__).parent
    for folder in (package / "page", package.parent / "web" / "dist"):
        if (folder / "index.html").is_file():
            return folder
    return None


def install(app: FastAPI, page: Path | None) -> None:
    """One route per file and folder at the top of `page`, so that every other path stays a plain 404."""
    if page is None:

        @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
        async def not_built() -> Response:
            return HTMLResponse(_NOT_BUILT, headers=PAGE_HEADERS | _REVALIDATE)

        return

    for entry in sorted(page.iterdir()):
        if entry.is_dir():
            app.mount(f"/{entry.name}", PageFiles(entry, hashed=entry.name == "assets"), name=entry.name)
        elif entry.name != "index.html":
            _file(app, f"/{entry.name}", entry)
    _file(app, "/", page / "index.html")


def _file(app: FastAPI, path: str, file: Path) -> None:
    @app.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)
    async def send() -> Response:
        return FileResponse(file, headers=PAGE_HEADERS | _REVALIDATE)


class PageFiles(StaticFiles):
    """A folder of the page. Names that are `hashed` change with the content: browsers keep them for ever."""

    def __init__(self, folder: Path, *, hashed: bool) -> None:
        super().__init__(directory=folder)
        self._cache_control = _FOR_EVER if hashed else _REVALIDATE["cache-control"]

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = self._cache_control
        response.headers["x-content-type-options"] = "nosniff"
        return response
