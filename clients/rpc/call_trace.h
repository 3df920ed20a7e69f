// The trace that this process's calls belong to, where it has one: a command is one trace, so that it is said once.
#pragma once

#include <string>

namespace loupe::clients::rpc {

// Of every call from now on (common/trace/trace_context.h); empty: none. Before the first call.
void SetCallTraceparent(std::string traceparent);
// Whether a call has carried it.
bool CallsWereTraced();

}  // namespace loupe::clients::rpc
