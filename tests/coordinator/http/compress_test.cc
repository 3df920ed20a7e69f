#include "coordinator/http/compress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "fmt/format.h"
#include "tests/testing/http_client.h"
#include "tests/testing/mini_sweep.h"

namespace loupe::coordinator::http {
namespace {

using loupe::testing::Fetch;
using loupe::testing::HttpAnswer;
using loupe::testing::HttpHeaders;
using ::testing::HasSubstr;

std::string Unpacked(const std::string& gzip) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
  std::string text(8 << 20, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(gzip.data()));
  stream.avail_in = static_cast<uInt>(gzip.size());
  stream.next_out = reinterpret_cast<Bytef*>(text.data());
  stream.avail_out = static_cast<uInt>(text.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  text.resize(stream.total_out);
  inflateEnd(&stream);
  return text;
}

TEST(TakesGzipTest, WeightsAreRead) {
  const std::pair<const char*, bool> kHeaders[] = {{"gzip", true},
                                                   {"br, GZIP ; q=0.5", true},
                                                   {"deflate, gzip;q=1.000", true},
                                                   {"*", true},
                                                   {"x-gzip", true},
                                                   {"", false},
                                                   {"identity", false},
                                                   {"gzip;q=0", false},
                                                   {"gzip;q=0.000", false},
                                                   {"gzip;q=0, *", false},
                                                   {"*;q=0", false},
                                                   {"gzipped", false},
                                                   {"gzip;q=high", false},
                                                   {"gzip;q=", false},
                                                   {";;,,q=", false}};
  for (const auto& [value, taken] : kHeaders) {
    Request request;
    request.headers = {{"accept-encoding", value}};
    EXPECT_EQ(TakesGzip(request), taken) << value;
  }
  EXPECT_FALSE(TakesGzip(Request{}));
}

class CompressTest : public ::testing::Test {
 protected:
  HttpHeaders Headers(HttpHeaders more = {}) const {
    const std::string token = *ReadFile(sweep_.data_folder() + "/data/token");
    more.emplace_back("Authorization", "Bearer " + token.substr(0, token.find('\n')));
    more.emplace_back("Content-Type", "application/json");
    return more;
  }
  // The same answer, with and without; expects that only the way differs.
  void ExpectSame(const std::string& method, const std::string& path, const std::string& body) const {
    const HttpAnswer plain = Fetch(sweep_.http_port(), method, path, Headers(), body);
    const HttpAnswer packed = Fetch(sweep_.http_port(), method, path, Headers({{"Accept-Encoding", "gzip, br"}}), body);
    ASSERT_EQ(plain.status, 200) << plain.body;
    ASSERT_EQ(packed.status, 200);
    EXPECT_FALSE(plain.headers.contains("content-encoding"));
    ASSERT_TRUE(packed.headers.contains("content-encoding")) << path;
    EXPECT_EQ(packed.headers.at("content-encoding"), "gzip");
    EXPECT_EQ(plain.headers.at("vary"), "Accept-Encoding");
    EXPECT_EQ(packed.headers.at("vary"), "Accept-Encoding");
    EXPECT_LT(packed.body.size(), plain.body.size() / 2);
    const std::string text = Unpacked(packed.body);
    if (plain.headers.at("content-type") == "application/json") {
      // Protobuf's maps come in any order.
      EXPECT_TRUE(nlohmann::json::parse(text) == nlohmann::json::parse(plain.body)) << path;
    } else {
      EXPECT_TRUE(text == plain.body) << path;
    }
  }

  loupe::testing::MiniSweep sweep_;
};

TEST_F(CompressTest, LongAnswersComeSmaller) {
  sweep_.Create("small", loupe::testing::SmallSpec(4, 10));
  sweep_.AddWorker("w1");
  sweep_.WaitUntilEnded("small");
  ExpectSame("POST", "/loupe.v1.TrialService/ListTrials", R"({"parent": "sweeps/small", "pageSize": 300})");
  ExpectSame("POST", "/v1/report", R"({"name": "sweeps/small", "format": "HTML"})");
  ExpectSame("GET", "/openapi.json", "");
  const HttpAnswer shorter = Fetch(sweep_.http_port(), "POST", "/loupe.v1.SweepService/GetSweep",
                                   Headers({{"Accept-Encoding", "gzip"}}), R"({"name": "sweeps/small"})");
  EXPECT_FALSE(shorter.headers.contains("content-encoding"));
}

TEST_F(CompressTest, EachFormHasATagOfItsOwn) {
  const auto page = [&](HttpHeaders headers) { return Fetch(sweep_.http_port(), "GET", "/app.js", headers); };
  const HttpAnswer plain = page({});
  if (plain.status == 404) GTEST_SKIP() << "built without its page";
  const HttpAnswer packed = page({{"Accept-Encoding", "gzip"}});
  EXPECT_EQ(Unpacked(packed.body), plain.body);
  const std::string tag = packed.headers.at("etag");
  EXPECT_NE(tag, plain.headers.at("etag"));
  const HttpAnswer same = page({{"Accept-Encoding", "gzip"}, {"If-None-Match", tag}});
  EXPECT_EQ(same.status, 304);
  EXPECT_EQ(same.headers.at("vary"), "Accept-Encoding");
  // The tag of one says nothing of the other.
  EXPECT_EQ(page({{"If-None-Match", tag}}).status, 200);
}

TEST_F(CompressTest, NothingPackedIsTaken) {
  const HttpAnswer answer = Fetch(sweep_.http_port(), "POST", "/loupe.v1.SweepService/ListSweeps",
                                  Headers({{"Content-Encoding", "gzip"}}), *Gzip("{}"));
  EXPECT_GE(answer.status, 400);
  EXPECT_THAT(answer.body, HasSubstr("identity"));
}

}  // namespace
}  // namespace loupe::coordinator::http
