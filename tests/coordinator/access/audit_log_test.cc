#include "coordinator/access/audit_log.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/atomic_file.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::access {
namespace {

TEST(AuditLogTest, AnEntryIsOneLineWhateverItsNamesSay) {
  const testing::TempFolder folder;
  const auto log = AuditLog::Open(folder / "audit.log");
  ASSERT_TRUE(log.ok());
  (*log)->Append("a created 'x'\nroot deleted 'everything' OK");
  (*log)->Append("b");
  EXPECT_EQ(*ReadFile(folder / "audit.log"), "a created 'x'?root deleted 'everything' OK\nb\n");
  struct stat info {};
  ASSERT_EQ(::stat((folder / "audit.log").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(AuditLogTest, ALinkInItsPlaceIsRefused) {
  const testing::TempFolder folder;
  ASSERT_EQ(::symlink("/dev/null", (folder / "audit.log").c_str()), 0);
  EXPECT_FALSE(AuditLog::Open(folder / "audit.log").ok());
}

// /dev/full accepts an open and refuses every write with ENOSPC.
TEST(AuditLogTest, AFullDiskCostsTheLineAndNothingElse) {
  const auto log = AuditLog::Open("/dev/full");
  ASSERT_TRUE(log.ok());
  (*log)->Append("lost");
  (*log)->Append("lost too");
}

TEST(AuditLogTest, ALogWithASizeKeepsTheOneBefore) {
  const testing::TempFolder folder;
  const auto log = AuditLog::Open(folder / "webhooks.log", 4);
  ASSERT_TRUE(log.ok());
  for (const char* line : {"one", "two", "three", "four"}) (*log)->Append(line);
  EXPECT_EQ(*ReadFile(folder / "webhooks.log"), "four\n");
  EXPECT_EQ(*ReadFile(folder / "webhooks.log.1"), "three\n");
}

}  // namespace
}  // namespace loupe::coordinator::access
