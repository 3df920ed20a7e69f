// One client's stream of a sweep's events.
#pragma once

#include <memory>
#include <string>

#include "coordinator/api/handlers.h"
#include "coordinator/http/event_feed.h"
#include "coordinator/http/exchange.h"

namespace loupe::coordinator::http {

// GET with Accept: text/event-stream; goes on after Last-Event-ID. 204 where it is known that nothing more comes, so
// that a browser does not ask again. Holds no thread; the client may read slowly, or be idle for ever.
void ServeEvents(api::Handlers& handlers, EventFeeds& feeds, int port, const std::string& sweep_name,
                 std::shared_ptr<Exchange> exchange);

}  // namespace loupe::coordinator::http
