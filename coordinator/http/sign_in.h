// Who asks: a bearer token in a header, or, from a browser that has signed in, in a cookie.
#pragma once

#include <string>

#include "coordinator/api/backend.h"
#include "coordinator/http/exchange.h"

namespace loupe::coordinator::http {

// The cookie holds the token itself: a restart of the coordinator signs nobody out, and a revoked token is refused with
// the next request. Scripts do not see it (HttpOnly), other sites' pages do not send it (SameSite=Strict). Cookies know
// no ports: the name says which coordinator of a machine it is for.
std::string CookieName(int port);

// What the call is admitted by. A header wins over a cookie. A cookie does not count for a request that another site's
// page, or a page of another port, made (Origin, Sec-Fetch-Site).
api::CallOrigin OriginOf(const Request& request, int port);

// POST /v1/session, {"token": "…"}: 204 and the cookie for a good token, 401 for another. DELETE: 204, and the cookie
// is gone. GET: {"name": "anna", "role": "viewer"}.
Response AnswerSession(const api::Backend& backend, const Request& request, int port);

}  // namespace loupe::coordinator::http
