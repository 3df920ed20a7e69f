// Files by the digest of their content: artifacts/ab/abcd… beside the database.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/sha256.h"

namespace loupe::coordinator::store {

// A name that a worker may give an artifact: 1–128 of [A-Za-z0-9._-], not starting with '.': nothing that a path, a
// shell or an archive reads as anything else. INVALID_ARGUMENT otherwise.
absl::Status CheckArtifactName(std::string_view name);

// Thread-safe; names are digests only, so no name from outside ever becomes a path.
class ArtifactFolder {
 public:
  // Makes the folder where it is missing and removes uploads that a crash left behind.
  static absl::StatusOr<std::unique_ptr<ArtifactFolder>> Open(const std::string& root);

  // For reading a folder that is there; changes nothing. NOT_FOUND when it is not.
  static absl::StatusOr<ArtifactFolder> Existing(const std::string& root);

  // One file on its way in. What is not finished disappears with the object. Not thread-safe.
  class Upload {
   public:
    ~Upload();
    Upload(const Upload&) = delete;
    Upload& operator=(const Upload&) = delete;

    // RESOURCE_EXHAUSTED on a full disk.
    absl::Status Append(std::string_view bytes);
    // Makes the file durable under its digest. DATA_LOSS when size or digest are not the announced ones; nothing is
    // kept then.
    absl::Status Finish(int64_t expected_size, std::string_view expected_sha256);

   private:
    friend class ArtifactFolder;
    Upload(const ArtifactFolder& folder, std::string path, int fd) : folder_(folder), path_(std::move(path)), fd_(fd) {}
    const ArtifactFolder& folder_;
    const std::string path_;
    int fd_;
    int64_t size_ = 0;
    Sha256 digest_;
  };
  absl::StatusOr<std::unique_ptr<Upload>> Begin() const;

  // Where the content lies (or would lie). INVALID_ARGUMENT unless `sha256` is 64 lower-case hexadecimal digits.
  absl::StatusOr<std::string> PathOf(std::string_view sha256) const;

  // The content, opened for reading; the caller closes it. Only a plain file in a real folder is opened: a link that
  // somebody put there is an error (DATA_LOSS), as is a missing file.
  absl::StatusOr<int> OpenToRead(std::string_view sha256) const;
  // Reads the whole content, block by block, and checks it: DATA_LOSS when it is missing, no plain file, or no longer
  // has its digest (known after the last block). An error of `on_block` ends it.
  absl::Status ForEachBlock(std::string_view sha256,
                            const std::function<absl::Status(std::string_view)>& on_block) const;
  // The whole content, checked; for small ones.
  absl::StatusOr<std::string> Read(std::string_view sha256) const;

  // All digests that have a file, sorted.
  absl::StatusOr<std::vector<std::string>> List() const;

 private:
  explicit ArtifactFolder(std::string root) : root_(std::move(root)) {}
  std::string root_;
};

}  // namespace loupe::coordinator::store
