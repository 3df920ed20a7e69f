#include "coordinator/access/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "fmt/format.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::access {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class AccessTest : public ::testing::Test {
 protected:
  std::unique_ptr<AccessControl> Open() {
    absl::StatusOr<std::unique_ptr<AccessControl>> access = AccessControl::Open(folder_.path(), clock_);
    EXPECT_TRUE(access.ok()) << access.status();
    return *std::move(access);
  }
  std::string Add(const std::string& name, Role role, absl::Duration lifetime = absl::InfiniteDuration()) {
    return *AccessControl::AddToken(folder_.path(), name, role, lifetime, clock_);
  }

  testing::TempFolder folder_;
  testing::FakeClock clock_;
};

TEST_F(AccessTest, TheFirstStartMakesAnAdministratorsTokenThatOnlyTheUserCanRead) {
  const auto access = Open();
  struct stat info {};
  ASSERT_EQ(::stat((folder_ / "token").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  std::string token = *ReadFile(folder_ / "token");
  token.pop_back();
  EXPECT_EQ(access->Authenticate("Bearer " + token)->role, Role::kAdmin);
  EXPECT_EQ(Open()->Authenticate("Bearer " + token)->role, Role::kAdmin) << "the next start keeps it";
}

TEST_F(AccessTest, NoTokenAWrongOneAndAnotherSchemeAreRefused) {
  const auto access = Open();
  for (const char* header : {"", "Bearer ", "Bearer wrong", "Basic abc", "bearer x"}) {
    EXPECT_EQ(access->Authenticate(header).status().code(), absl::StatusCode::kUnauthenticated) << header;
  }
}

TEST_F(AccessTest, AnAdministratorsTokenThatOthersCanReadIsRefusedAtStart) {
  Open();
  ASSERT_EQ(::chmod((folder_ / "token").c_str(), 0644), 0);
  EXPECT_EQ(AccessControl::Open(folder_.path(), clock_).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(AccessTest, AnAddedTokenWorksAtOnceIsNotKeptAndEndsWhenRevoked) {
  const auto access = Open();
  const std::string token = Add("gpu-farm", Role::kWorker);
  EXPECT_EQ(access->Authenticate("Bearer " + token)->name, "gpu-farm");
  EXPECT_THAT(*ReadFile(folder_ / "tokens"), Not(HasSubstr(token)));
  ASSERT_TRUE(AccessControl::RemoveToken(folder_.path(), "gpu-farm").ok());
  EXPECT_EQ(access->Authenticate("Bearer " + token).status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(AccessControl::RemoveToken(folder_.path(), "gpu-farm").code(), absl::StatusCode::kNotFound);
}

TEST_F(AccessTest, ATokenLivesToItsLastSecondAndNoLonger) {
  const auto access = Open();
  const std::string token = Add("guest", Role::kViewer, absl::Hours(1));
  clock_.Advance(absl::Hours(1) - absl::Nanoseconds(1));
  EXPECT_TRUE(access->Authenticate("Bearer " + token).ok());
  clock_.Advance(absl::Nanoseconds(1));
  EXPECT_THAT(std::string(access->Authenticate("Bearer " + token).status().message()), HasSubstr("expired"));
}

TEST_F(AccessTest, RolesCoverWhatTheySayAndNoMore) {
  for (const Role role : {Role::kViewer, Role::kSubmitter, Role::kWorker, Role::kAdmin, Role::kEnrol}) {
    for (const Role needed : {Role::kViewer, Role::kSubmitter, Role::kWorker, Role::kAdmin, Role::kEnrol}) {
      const bool looks = needed == Role::kViewer && role != Role::kEnrol;
      EXPECT_EQ(AccessControl::Authorize({"x", role}, needed).ok(), role == Role::kAdmin || role == needed || looks)
          << NameOf(role) << " " << NameOf(needed);
    }
  }
}

TEST_F(AccessTest, ADamagedTokenFileChangesNothing) {
  const auto access = Open();
  const std::string token = Add("a", Role::kViewer);
  ASSERT_TRUE(access->Authenticate("Bearer " + token).ok());
  const std::string whole = *ReadFile(folder_ / "tokens");
  for (const std::string& damage : {std::string("what is this\n"), std::string(), whole.substr(0, whole.size() - 1)}) {
    ASSERT_TRUE(WriteFileAtomically(folder_ / "tokens", damage).ok());
    EXPECT_TRUE(access->Authenticate("Bearer " + token).ok()) << "'" << damage << "'";
    EXPECT_TRUE(absl::IsInvalidArgument(AccessControl::Open(folder_.path(), clock_).status())) << "a start says so";
  }
  ASSERT_EQ(::unlink((folder_ / "tokens").c_str()), 0);
  EXPECT_FALSE(access->Authenticate("Bearer " + token).ok()) << "no file is no tokens";
}

TEST_F(AccessTest, ANewAdministratorsTokenCountsAtOnce) {
  const auto access = Open();
  const std::string old = ReadFile(folder_ / "token")->substr(0, 64);
  ASSERT_TRUE(WriteFileAtomically(folder_ / "token", "another-token-of-enough-length\n", 0600).ok());
  EXPECT_EQ(access->Authenticate("Bearer another-token-of-enough-length")->role, Role::kAdmin);
  EXPECT_FALSE(access->Authenticate("Bearer " + old).ok());
  // One that others may read is not taken over.
  ASSERT_TRUE(WriteFileAtomically(folder_ / "token", "a-third-token-of-enough-length\n", 0644).ok());
  EXPECT_TRUE(access->Authenticate("Bearer another-token-of-enough-length").ok());
  EXPECT_FALSE(access->Authenticate("Bearer a-third-token-of-enough-length").ok());
}

TEST_F(AccessTest, ALinkInPlaceOfTheTokenIsRefused) {
  Open();
  ASSERT_EQ(::rename((folder_ / "token").c_str(), (folder_ / "elsewhere").c_str()), 0);
  ASSERT_EQ(::symlink((folder_ / "elsewhere").c_str(), (folder_ / "token").c_str()), 0);
  EXPECT_EQ(AccessControl::Open(folder_.path(), clock_).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(AccessTest, EditsOfSeveralProcessesAreAllKept) {
  for (int i = 0; i < 8; ++i) Add(fmt::format("old-{}", i), Role::kViewer);
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      const bool good =
          AccessControl::RemoveToken(folder_.path(), fmt::format("old-{}", i)).ok() &&
          AccessControl::AddToken(folder_.path(), fmt::format("new-{}", i), Role::kViewer, absl::Hours(1), clock_).ok();
      ::_exit(good ? 0 : 1);
    }
    children.push_back(pid);
  }
  for (const pid_t pid : children) {
    int status = -1;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
  const std::vector<TokenEntry> entries = *ReadTokens(folder_.path());
  EXPECT_EQ(entries.size(), 8u);
  for (const TokenEntry& entry : entries) EXPECT_THAT(entry.name, ::testing::StartsWith("new-"));
}

TEST_F(AccessTest, AnEnrolmentGivesOneWorkerOneName) {
  const auto access = Open();
  const Caller farm = *access->Authenticate("Bearer " + Add("farm", Role::kEnrol, absl::Hours(1)));
  ASSERT_TRUE(access->Enrol(farm, "gpu-1", Sha256Hex("own token")).ok());
  EXPECT_TRUE(access->Enrol(farm, "gpu-1", Sha256Hex("own token")).ok()) << "a repeat costs no use";
  EXPECT_TRUE(absl::IsAlreadyExists(access->Enrol(farm, "gpu-1", Sha256Hex("thief")).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(access->Enrol(farm, "gpu-2", Sha256Hex("second")).status())) << "one use";
  const Caller own = *access->Authenticate("Bearer own token");
  EXPECT_EQ(own.name, "workers/gpu-1");
  EXPECT_TRUE(access->ClaimWorker(own, "gpu-1").ok());
  EXPECT_TRUE(absl::IsPermissionDenied(access->ClaimWorker(own, "gpu-2")));
  // Nobody else has its name: not a shared worker's token, not the administrator.
  const Caller shared = *access->Authenticate("Bearer " + Add("shared", Role::kWorker));
  EXPECT_TRUE(absl::IsPermissionDenied(access->ClaimWorker(shared, "gpu-1")));
  EXPECT_TRUE(absl::IsPermissionDenied(access->ClaimWorker({"admin", Role::kAdmin, "x"}, "gpu-1")));
  ASSERT_TRUE(AccessControl::RemoveToken(folder_.path(), "workers/gpu-1").ok());
  EXPECT_TRUE(absl::IsUnauthenticated(access->CheckStill(own)));
  EXPECT_TRUE(access->ClaimWorker(shared, "gpu-1").ok()) << "a revoked worker's name is free";
}

TEST_F(AccessTest, AWorkersTokenLastsWhileItIsRenewed) {
  const auto access = Open();
  const Caller farm = *access->Authenticate("Bearer " + Add("farm", Role::kEnrol));
  ASSERT_TRUE(access->Enrol(farm, "gpu-1", Sha256Hex("own")).ok());
  const Caller own = *access->Authenticate("Bearer own");
  clock_.Advance(kWorkerTokenLifetime - absl::Hours(1));
  ASSERT_TRUE(access->Renew(own).ok());
  clock_.Advance(kWorkerTokenLifetime - absl::Hours(1));
  EXPECT_TRUE(access->CheckStill(own).ok());
  clock_.Advance(absl::Hours(2));
  EXPECT_TRUE(absl::IsUnauthenticated(access->CheckStill(own)));
  // An old name is forgotten: a machine of the same name may enrol.
  const Caller again = *access->Authenticate("Bearer " + Add("again", Role::kEnrol));
  EXPECT_TRUE(access->Enrol(again, "gpu-1", Sha256Hex("new")).ok());
  EXPECT_FALSE(access->Renew(farm).ok());
}

TEST_F(AccessTest, ANameInUseIsNoOtherTokens) {
  const auto access = Open();
  const Caller a = *access->Authenticate("Bearer " + Add("a", Role::kWorker));
  const Caller b = *access->Authenticate("Bearer " + Add("b", Role::kWorker));
  ASSERT_TRUE(access->ClaimWorker(a, "gpu-1").ok());
  EXPECT_TRUE(absl::IsPermissionDenied(access->ClaimWorker(b, "gpu-1")));
  EXPECT_TRUE(access->ClaimWorker(b, "gpu-2").ok());
  clock_.Advance(kClaimLifetime);
  EXPECT_TRUE(absl::IsPermissionDenied(access->ClaimWorker(b, "gpu-1")));
  clock_.Advance(absl::Nanoseconds(1));
  EXPECT_TRUE(access->ClaimWorker(b, "gpu-1").ok()) << "old names are forgotten";
  ASSERT_TRUE(AccessControl::RemoveToken(folder_.path(), "b").ok());
  ASSERT_FALSE(access->CheckStill(b).ok());
  EXPECT_TRUE(access->ClaimWorker(a, "gpu-1").ok()) << "and those of revoked tokens at once";
}

}  // namespace
}  // namespace loupe::coordinator::access
