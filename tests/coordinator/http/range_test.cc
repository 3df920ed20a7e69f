#include "coordinator/http/range.h"

#include <gtest/gtest.h>

namespace loupe::coordinator::http {
namespace {

constexpr char kTag[] = "\"abc\"";

Part Ask(const std::string& range, const std::string& if_range = "", const std::string& if_none_match = "",
         int64_t size = 100) {
  Request request;
  if (!range.empty()) request.headers.emplace_back("range", range);
  if (!if_range.empty()) request.headers.emplace_back("if-range", if_range);
  if (!if_none_match.empty()) request.headers.emplace_back("if-none-match", if_none_match);
  return PartOf(request, size, kTag);
}

void ExpectPart(const Part& part, int status, int64_t first, int64_t bytes) {
  EXPECT_EQ(part.status, status);
  EXPECT_EQ(part.first, first);
  EXPECT_EQ(part.bytes, bytes);
}

// RFC 9110 §14.1.2 has these for a file of 10,000 bytes.
TEST(RangeTest, FirstLastAndSuffix) {
  ExpectPart(Ask("bytes=0-499", "", "", 10000), 206, 0, 500);
  ExpectPart(Ask("bytes=500-999", "", "", 10000), 206, 500, 500);
  ExpectPart(Ask("bytes=-500", "", "", 10000), 206, 9500, 500);
  ExpectPart(Ask("bytes=9500-", "", "", 10000), 206, 9500, 500);
  ExpectPart(Ask("bytes=0-0"), 206, 0, 1);
  ExpectPart(Ask("bytes=90-1000"), 206, 90, 10);
  ExpectPart(Ask("bytes=-1000"), 206, 0, 100);
}

TEST(RangeTest, NothingThereIsSaid) {
  ExpectPart(Ask("bytes=100-"), 416, 0, 0);
  ExpectPart(Ask("bytes=-0"), 416, 0, 0);
  ExpectPart(Ask("bytes=0-", "", "", 0), 416, 0, 0);
}

TEST(RangeTest, UnreadableIsTheWhole) {
  for (const char* range : {"bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=0-1,3-4", "lines=0-1", "bytes=1",
                            "bytes=99999999999999999999-", "bytes=+1-2", "bytes= 1-2"}) {
    SCOPED_TRACE(range);
    ExpectPart(Ask(range), 200, 0, 100);
  }
}

TEST(RangeTest, ConditionsCompareTags) {
  ExpectPart(Ask("bytes=0-1", kTag), 206, 0, 2);
  ExpectPart(Ask("bytes=0-1", "\"other\""), 200, 0, 100);
  ExpectPart(Ask("bytes=0-1", "W/\"abc\""), 200, 0, 100);
  ExpectPart(Ask("", "", kTag), 304, 0, 0);
  ExpectPart(Ask("", "", "\"x\", W/\"abc\""), 304, 0, 0);
  ExpectPart(Ask("", "", "*"), 304, 0, 0);
  ExpectPart(Ask("", "", "\"x\""), 200, 0, 100);
}

TEST(RequestTest, QueryAndPathAreDecodedOrRefused) {
  Request request;
  request.query = "a=1&b=%2F%20&c&d=%zz&e=%00";
  EXPECT_EQ(request.QueryValue("a"), "1");
  EXPECT_EQ(request.QueryValue("b"), "/ ");
  EXPECT_EQ(request.QueryValue("c"), "");
  EXPECT_EQ(request.QueryValue("d"), std::nullopt);
  EXPECT_EQ(request.QueryValue("e"), std::nullopt);
  EXPECT_EQ(request.QueryValue("f"), std::nullopt);
  EXPECT_EQ(PercentDecoded("%4"), std::nullopt);
}

}  // namespace
}  // namespace loupe::coordinator::http
