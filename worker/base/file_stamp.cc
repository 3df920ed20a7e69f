#include "worker/base/file_stamp.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "fmt/format.h"

namespace loupe::worker::base {
namespace {

namespace fs = std::filesystem;

using FolderId = std::pair<dev_t, ino_t>;

// By its own walk: the library's follows no links, or runs in circles with them.
void AddFilesBelow(const std::string& root, const std::string& below, std::set<FolderId>& seen,
                   std::vector<std::string>& files) {
  const std::string folder = root + "/" + below;
  struct stat info {};
  if (::stat(folder.c_str(), &info) != 0 || !seen.emplace(info.st_dev, info.st_ino).second) return;
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator entries(folder, error), end; !error && entries != end; entries.increment(error)) {
    names.push_back(entries->path().filename().string());
  }
  // In a defined order: which of two links to one folder counts must not depend on the disk.
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const std::string path = below + name;
    if (::stat((root + "/" + path).c_str(), &info) != 0) continue;
    if (S_ISDIR(info.st_mode)) AddFilesBelow(root, path + "/", seen, files);
    if (S_ISREG(info.st_mode)) files.push_back(path);
  }
}

std::string StampLine(const std::string& name, const struct stat& info) {
  return fmt::format("{} {} {}:{} {}.{} {}.{}\n", name, info.st_size, info.st_dev, info.st_ino, info.st_mtim.tv_sec,
                     info.st_mtim.tv_nsec, info.st_ctim.tv_sec, info.st_ctim.tv_nsec);
}

}  // namespace

std::vector<std::string> FilesBelow(const std::string& folder) {
  std::set<FolderId> seen;
  std::vector<std::string> files;
  AddFilesBelow(folder, "", seen, files);
  std::sort(files.begin(), files.end());
  return files;
}

std::string FileStamp(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return "";
  if (!S_ISDIR(info.st_mode)) return StampLine(path, info);
  std::string stamp;
  for (const std::string& name : FilesBelow(path)) {
    if (::stat((path + "/" + name).c_str(), &info) == 0) stamp += StampLine(name, info);
  }
  return stamp;
}

}  // namespace loupe::worker::base
