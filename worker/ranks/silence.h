// Connections to a machine that is gone without a word (no power, no cable): nothing arrives any more, not even that
// they are closed, and the kernel itself would wait for hours.
#pragma once

#include <string>

namespace loupe::worker::ranks {

// This TCP connection fails (ETIMEDOUT) when the other machine answers nothing for so long, whether or not something is
// under way.
void EndWhenSilent(int socket, int seconds);

// The same for each TCP connection that this process has by the interface with this numeric address: those that a
// library has made, which says nothing of their descriptors.
void EndAllWhenSilent(const std::string& interface, int seconds);

}  // namespace loupe::worker::ranks
