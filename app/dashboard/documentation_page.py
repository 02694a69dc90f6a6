"""``/docs``: the OpenAPI document in Swagger UI, from files of our own instead of somebody's server."""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from app.dashboard.rendering import page

DOCUMENTATION_PATH = "/docs"
_POLICY = (
    # Swagger UI sets styles inside of its markup; scripts are files of ours only
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)


@router.get(DOCUMENTATION_PATH)
async def documentation(request: Request) -> HTMLResponse:
    """Show what the API serves."""
    response = page(request, "documentation.html", openapi_url=request.app.openapi_url)
    response.headers["Content-Security-Policy"] = _POLICY
    return response
