// "Did you mean …" for names typed by people.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace loupe::analysis::stats {

// "; did you mean 'x'? In all there are: x, y, z"; the question only when a name is near (NearestName's rule, as for
// settings). At most 40 names are listed. Empty when `names` is empty.
std::string SuggestName(std::string_view name, const std::vector<std::string>& names);

}  // namespace loupe::analysis::stats
