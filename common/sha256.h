// SHA-256 (FIPS 180-4, by OpenSSL): the content address of artifacts and caches.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace loupe {

// Incremental digest. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  Sha256& Update(std::string_view bytes);
  // 64 lower-case hexadecimal digits of all bytes so far; the object is spent afterwards.
  std::string FinishHex();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::string Sha256Hex(std::string_view bytes);

// Digest of a file's bytes, read in blocks. NOT_FOUND or PERMISSION_DENIED names the path.
absl::StatusOr<std::string> Sha256HexOfFile(const std::string& path);

}  // namespace loupe
