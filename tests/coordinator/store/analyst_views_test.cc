// The views for people who analyse the database. That they say what the coordinator says is held by
// tests/python/database_test.py.
#include "coordinator/store/analyst_views.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

#include "coordinator/store/sqlite_store.h"
#include "fmt/format.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::store {
namespace {

class AnalystViewsTest : public ::testing::Test {
 protected:
  std::unique_ptr<SqliteDb> OpenFile() { return *SqliteDb::Open(path_, SqliteDb::Mode::kReadWriteCreate, ""); }
  void OpenStore() { ASSERT_TRUE(SqliteStore::Open({.path = path_}).ok()); }
  static std::map<std::string, std::string> Views(SqliteDb& db) {
    std::map<std::string, std::string> views;
    EXPECT_TRUE(db.ForEach("SELECT name, sql FROM sqlite_schema WHERE type = 'view'", [&](const SqliteRow& row) {
                    views.emplace(row.Text(0), row.Text(1));
                  }).ok());
    return views;
  }

  testing::TempFolder folder_;
  const std::string path_ = folder_ / "coordinator.db";
};

TEST_F(AnalystViewsTest, AStartRenewsOursAndLeavesOthers) {
  OpenStore();
  {
    const auto db = OpenFile();
    EXPECT_EQ(Views(*db).size(), AnalystViews().size());
    ASSERT_TRUE(db->Execute("DROP VIEW view_trials; CREATE VIEW view_trials AS SELECT 1 AS one;"
                            "DROP VIEW view_scores; CREATE VIEW view_of_mine AS SELECT 2 AS two")
                    .ok());
  }
  OpenStore();
  std::map<std::string, std::string> views = Views(*OpenFile());
  EXPECT_EQ(views.erase("view_of_mine"), 1u);
  for (const AnalystView& view : AnalystViews()) EXPECT_EQ(views[std::string(view.name)], view.sql);
}

TEST_F(AnalystViewsTest, AStartWithoutChangeWritesNothing) {
  const auto cookie = [&] {
    int value = 0;
    EXPECT_TRUE(OpenFile()->ForEach("PRAGMA schema_version", [&](const SqliteRow& row) { value = row.Int32(0); }).ok());
    return value;
  };
  OpenStore();
  const int before = cookie();
  OpenStore();
  EXPECT_EQ(cookie(), before);
}

TEST_F(AnalystViewsTest, AMigratedFileHasThemWithItsRows) {
  std::filesystem::copy_file("tests/coordinator/store/fixtures/schema_1.db", path_);
  OpenStore();
  for (const char* table : {"sweeps", "trials", "scores", "attempts", "workers", "artifacts"}) {
    // Outlives the connection, which keeps its statement by the address.
    const std::string sql = fmt::format("SELECT (SELECT count(*) FROM view_{0}), (SELECT count(*) FROM {0})", table);
    const auto db = OpenFile();
    int64_t rows = -1, expected = -2;
    const auto count = [&](const SqliteRow& row) { rows = row.Int(0), expected = row.Int(1); };
    ASSERT_TRUE(db->ForEach(sql.c_str(), count).ok()) << table;
    EXPECT_EQ(rows, expected) << table;
  }
}

}  // namespace
}  // namespace loupe::coordinator::store
