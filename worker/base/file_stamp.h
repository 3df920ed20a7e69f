// Which files a model or a data set consists of, and what tells from outside that they have changed.
#pragma once

#include <string>
#include <vector>

namespace loupe::worker::base {

// The regular files below `folder`, as paths from it, sorted by bytes. Symbolic links are followed, each folder once.
// Empty when it cannot be listed (reading it will say why).
std::vector<std::string> FilesBelow(const std::string& folder);

// Names, sizes, times, and devices with inodes of the files below a folder, or of a file: another text when any of them
// was edited, replaced, added or removed since, without reading them. Times are of the content and of the inode: a copy
// that keeps the one changes the other. Empty when there is nothing.
std::string FileStamp(const std::string& path);

}  // namespace loupe::worker::base
