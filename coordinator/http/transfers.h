// What is sent as a file and not as a message: artifacts and reports.
#pragma once

#include <memory>
#include <string>

#include "coordinator/api/handlers.h"
#include "coordinator/http/exchange.h"
#include "coordinator/http/thumbnail.h"

namespace loupe::coordinator::http {

// GET or HEAD of a trial's artifact: with its digest as ETag, by parts, and never run by a browser that shows it. While
// the client reads, one piece of it is in memory. With "?width=320" a PNG's thumbnail (thumbnail.h) instead, whole.
void ServeArtifact(api::Handlers& handlers, ThumbnailCache& thumbnails, int port, const std::string& trial,
                   const std::string& artifact, const std::shared_ptr<Exchange>& exchange);

// POST of a RenderReportRequest in JSON: the report's bytes. (By gRPC it streams.)
void ServeReport(api::Handlers& handlers, int port, const std::shared_ptr<Exchange>& exchange);

}  // namespace loupe::coordinator::http
