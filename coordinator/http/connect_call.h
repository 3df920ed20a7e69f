// Connect's unary form (connectrpc.com/docs/protocol): POST /package.Service/Method with a message as JSON, in
// protobuf's own mapping, or as protobuf's bytes.
#pragma once

#include <memory>

#include "coordinator/api/handlers.h"
#include "coordinator/http/exchange.h"
#include "coordinator/http/methods.h"

namespace loupe::coordinator::http {

// Answers the exchange. 415 for another content type, 400 for what is no such message (unknown fields included), 404
// for no such method; everything else is the method's answer.
void ServeConnect(const api::Backend& backend, const Methods& methods, int port, std::shared_ptr<Exchange> exchange);

}  // namespace loupe::coordinator::http
