// Everything that comes as a name or a token: resource names, page tokens, lease tokens, artifact names, bearer headers
// and the file of access tokens.
#include <unistd.h>

#include "common/atomic_file.h"
#include "common/clock.h"
#include "common/error_details.h"
#include "common/ids.h"
#include "common/random_source.h"
#include "coordinator/access/access.h"
#include "coordinator/api/backend.h"
#include "coordinator/store/artifact_folder.h"
#include "spdlog/spdlog.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/testing/temp_folder.h"

namespace loupe::fuzz {

std::vector<std::string> Seeds() {
  return {"sweeps/quickstart/trials/17",
          "sweeps/quickstart/trials/017",
          "workers/gpu-01",
          "samples.png",
          "Bearer 0123456789abcdef0123456789abcdef",
          "24f3ce619e0fbf405e4c625c3ca6ab21",
          coordinator::api::MakePageToken("1234", "ListTrials sweeps/a"),
          "# name role sha256-of-token expiry-unix-seconds\nanna admin " + std::string(64, 'a') + " 0\n",
          "anna viewer " + std::string(64, '0') + " 99999999999\nworker worker " + std::string(64, 'f') + " 1\n"};
}

std::vector<std::string> Dictionary() {
  return {"sweeps/",
          "/trials/",
          "workers/",
          "..",
          "/",
          "\\",
          "\n",
          "\r",
          std::string(1, '\0'),
          "Bearer ",
          " admin ",
          " 0",
          "9223372036854775808",
          "-1",
          "%2e",
          "|",
          "="};
}

int DefaultRuns() { return 4000; }

}  // namespace loupe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loupe;               // NOLINT: one function
  using namespace loupe::coordinator;  // NOLINT
  // What is refused is also logged: here it is no news.
  spdlog::set_level(spdlog::level::off);
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto sweep = SweepId::FromName(text); sweep.ok()) fuzz::Require(sweep->name() == text, "a name reads back");
  if (const auto trial = TrialId::FromName(text); trial.ok()) fuzz::Require(trial->name() == text, "a name reads back");
  if (const auto worker = WorkerId::FromName(text); worker.ok())
    fuzz::Require(worker->name() == text, "a name reads back");
  if (store::CheckArtifactName(text).ok()) {
    fuzz::Require(text.find_first_of("/\\\n ") == std::string::npos && text.front() != '.',
                  "an artifact name is no path");
  }
  if (const auto token = TokenFromHex(text)) fuzz::Require(ToHex(*token) == text, "a token reads back");
  const std::string page = api::MakePageToken(text, "request");
  fuzz::Require(*api::ReadPageToken(page, "request") == text, "a page token reads back");
  fuzz::Require(!api::ReadPageToken(page, "other").ok(), "a page token serves its own request only");
  if (const auto read = api::ReadPageToken(text, "request"); read.ok() && !text.empty()) {
    fuzz::Require(api::MakePageToken(*read, "request").size() <= text.size() + 4, "an accepted page token is one");
  }
  static const testing::TempFolder folder;
  static const auto access = access::AccessControl::Open(folder.path(), SystemClock());
  fuzz::Require(access.ok(), "the folder opens");
  fuzz::Require(!(*access)->Authenticate(text).ok(), "nobody guesses a token");
  // As the file of tokens: whatever it says, no made-up header gets in by it.
  fuzz::Require(WriteFileAtomically(folder / "tokens", text).ok(), "the file can be written");
  fuzz::Require(!(*access)->Authenticate("Bearer " + text.substr(0, 64)).ok(), "a digest is no token");
  return 0;
}
