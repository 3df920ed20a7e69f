// A data folder with one sweep, one result and one artifact, its store open as a coordinator's is.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>

#include "common/sha256.h"
#include "coordinator/store/artifact_folder.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/coordinator/store/store_fixture.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::store {

class DataTest : public ::testing::Test {
 protected:
  DataTest() {
    std::filesystem::create_directory(data_);
    artifacts_ = *ArtifactFolder::Open(data_ + "/artifacts");
    store_ = *SqliteStore::Open({.path = data_ + "/coordinator.db"});
    const scheduler::TrialKey trial{1, 0};
    EXPECT_TRUE(store_
                    ->Commit({NewSweep(1, "first"), Running(trial, 1), Start(trial, 1),
                              scheduler::RecordArtifact{trial, {"log.txt", "text/plain", 5, Put("hello"), 1}}})
                    .ok());
    EXPECT_TRUE(store_->Commit(Accepting(trial, 1, 0.5)).ok());
  }

  std::string Put(const std::string& content) {
    auto upload = artifacts_->Begin();
    EXPECT_TRUE((*upload)->Append(content).ok());
    const std::string sha256 = Sha256Hex(content);
    EXPECT_TRUE((*upload)->Finish(static_cast<int64_t>(content.size()), sha256).ok());
    return sha256;
  }

  void Execute(const char* sql) {
    auto db = SqliteDb::Open(data_ + "/coordinator.db", SqliteDb::Mode::kReadWrite, "");
    const absl::Status status = (*db)->Execute(sql);
    EXPECT_TRUE(status.ok()) << status;
  }

  testing::TempFolder folder_;
  const std::string data_ = folder_ / "data";
  std::unique_ptr<ArtifactFolder> artifacts_;
  std::unique_ptr<SqliteStore> store_;
};

}  // namespace loupe::coordinator::store
