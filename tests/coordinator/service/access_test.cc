#include "coordinator/service/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "common/atomic_file.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator {
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
  for (const Role role : {Role::kViewer, Role::kSubmitter, Role::kWorker, Role::kAdmin}) {
    for (const Role needed : {Role::kViewer, Role::kSubmitter, Role::kWorker, Role::kAdmin}) {
      const bool allowed = role == Role::kAdmin || role == needed || needed == Role::kViewer;
      EXPECT_EQ(AccessControl::Authorize({"x", role}, needed).ok(), allowed) << NameOf(role) << " " << NameOf(needed);
    }
  }
}

TEST_F(AccessTest, ADamagedTokenFileAdmitsNobodyButTheAdministrator) {
  const auto access = Open();
  const std::string token = Add("a", Role::kAdmin);
  ASSERT_TRUE(WriteFileAtomically(folder_ / "tokens", "what is this\n").ok());
  EXPECT_EQ(access->Authenticate("Bearer " + token).status().code(), absl::StatusCode::kUnauthenticated);
}

}  // namespace
}  // namespace loupe::coordinator
