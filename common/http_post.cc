#include "common/http_post.h"

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <optional>

#include "absl/strings/numbers.h"
#include "fmt/format.h"

namespace loupe {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Tcp = asio::ip::tcp;
using boost::system::error_code;

// Of an answer, whose body nobody reads.
constexpr uint32_t kMostHead = 16 << 10;

bool IsPublicV4(uint32_t address) {
  struct Block {
    uint32_t network;
    int bits;
  };
  // IANA's registry of special addresses (RFC 6890 and after).
  static constexpr Block kSpecial[] = {{0x00000000, 8},  {0x0A000000, 8},  {0x64400000, 10}, {0x7F000000, 8},
                                       {0xA9FE0000, 16}, {0xAC100000, 12}, {0xC0000000, 24}, {0xC0000200, 24},
                                       {0xC0A80000, 16}, {0xC6120000, 15}, {0xC6336400, 24}, {0xCB007100, 24},
                                       {0xE0000000, 4},  {0xF0000000, 4}};
  for (const Block& block : kSpecial) {
    if ((address >> (32 - block.bits)) == (block.network >> (32 - block.bits))) return false;
  }
  return true;
}

bool IsPublic(const asio::ip::address& address) {
  if (address.is_v4()) return IsPublicV4(address.to_v4().to_uint());
  const asio::ip::address_v6 v6 = address.to_v6();
  if (v6.is_v4_mapped()) return IsPublicV4(asio::ip::make_address_v4(asio::ip::v4_mapped, v6).to_uint());
  // Of all else only the global unicast block, without the documentation's, Teredo and 6to4, which carry IPv4 within.
  const auto bytes = v6.to_bytes();
  const bool global = (bytes[0] & 0xE0) == 0x20;
  const bool documentation = bytes[0] == 0x20 && bytes[1] == 0x01 && bytes[2] == 0x0D && bytes[3] == 0xB8;
  const bool teredo = bytes[0] == 0x20 && bytes[1] == 0x01 && bytes[2] == 0 && bytes[3] == 0;
  const bool six_to_four = bytes[0] == 0x20 && bytes[1] == 0x02;
  return global && !documentation && !teredo && !six_to_four;
}

// Each step is started only when the last one is done; the io_context runs until the time is up.
class Exchange {
 public:
  Exchange(asio::io_context& io, const HttpPost& post) : post_(post), resolver_(io), socket_(io) {
    request_.version(11);
    request_.method(http::verb::post);
    request_.target(post.target);
    const bool usual = post.port == (post.tls ? 443 : 80);
    request_.set(http::field::host, usual ? post.host : fmt::format("{}:{}", post.host, post.port));
    for (const auto& [name, value] : post.headers) request_.set(name, value);
    request_.set(http::field::connection, "close");
    request_.body() = post.body;
    request_.prepare_payload();
    parser_.header_limit(kMostHead);
  }

  void Start() {
    doing_ = "looking its name up";
    resolver_.async_resolve(post_.host, fmt::format("{}", post_.port),
                            [this](const error_code& error, const Tcp::resolver::results_type& found) {
                              if (!error) Connect(found);
                              if (error) End(error);
                            });
  }

  absl::StatusOr<int> TakeOutcome() {
    if (outcome_) return *outcome_;
    return absl::UnavailableError(fmt::format("no answer in time ({})", doing_));
  }

 private:
  void Connect(const Tcp::resolver::results_type& found) {
    std::vector<Tcp::endpoint> allowed;
    for (const auto& entry : found) {
      if (post_.allow_private || IsPublic(entry.endpoint().address())) allowed.push_back(entry.endpoint());
    }
    if (allowed.empty()) {
      outcome_ = absl::PermissionDeniedError(
          fmt::format("'{}' is this machine or in a private network: set allow_private if that is meant", post_.host));
      return;
    }
    doing_ = "connecting";
    // To the very addresses that were looked at: a name may mean another one the next time.
    endpoints_ = std::move(allowed);
    asio::async_connect(socket_, endpoints_, [this](const error_code& error, const Tcp::endpoint&) {
      if (error) return End(error);
      post_.tls ? Handshake() : Send(socket_);
    });
  }

  void Handshake() {
    doing_ = "TLS";
    context_.emplace(asio::ssl::context::tls_client);
    error_code error;
    context_->set_default_verify_paths(error);
    context_->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                          asio::ssl::context::no_tlsv1_1);
    stream_.emplace(socket_, *context_);
    stream_->set_verify_mode(asio::ssl::verify_peer);
    stream_->set_verify_callback(asio::ssl::host_name_verification(post_.host));
    SSL_set_tlsext_host_name(stream_->native_handle(), post_.host.c_str());
    stream_->async_handshake(asio::ssl::stream_base::client,
                             [this](const error_code& failed) { failed ? End(failed) : Send(*stream_); });
  }

  template <typename Stream>
  void Send(Stream& stream) {
    doing_ = "sending";
    http::async_write(stream, request_, [this, &stream](const error_code& error, size_t) {
      if (error) return End(error);
      doing_ = "waiting for its answer";
      http::async_read_header(stream, buffer_, parser_, [this](const error_code& failed, size_t) {
        if (failed) return End(failed);
        outcome_ = static_cast<int>(parser_.get().result_int());
      });
    });
  }

  void End(const error_code& error) {
    outcome_ = absl::UnavailableError(fmt::format("{} failed: {}", doing_, error.message()));
  }

  const HttpPost& post_;
  Tcp::resolver resolver_;
  Tcp::socket socket_;
  std::vector<Tcp::endpoint> endpoints_;
  std::optional<asio::ssl::context> context_;
  std::optional<asio::ssl::stream<Tcp::socket&>> stream_;
  http::request<http::string_body> request_;
  http::response_parser<http::empty_body> parser_;
  boost::beast::flat_buffer buffer_;
  const char* doing_ = "";
  std::optional<absl::StatusOr<int>> outcome_;
};

}  // namespace

absl::StatusOr<HttpUrl> ParseHttpUrl(std::string_view url) {
  const absl::Status wrong =
      absl::InvalidArgumentError(fmt::format("url '{}': expected http://host/path or https://host/path", url));
  const bool plain = std::all_of(url.begin(), url.end(), [](char c) { return c > ' ' && c <= '~'; });
  HttpUrl parsed;
  std::string_view rest = url;
  parsed.tls = rest.starts_with("https://");
  if (!plain || (!parsed.tls && !rest.starts_with("http://"))) return wrong;
  rest.remove_prefix(parsed.tls ? 8 : 7);
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
  parsed.target = std::string(rest.substr(authority.size()));
  parsed.target.resize(std::min(parsed.target.size(), parsed.target.find('#')));
  if (!parsed.target.starts_with('/')) parsed.target.insert(0, "/");
  parsed.port = parsed.tls ? 443 : 80;
  std::string_view host = authority;
  const size_t colon = authority.rfind(':');
  if (colon != std::string_view::npos && !authority.ends_with(']')) {
    const std::string_view port = authority.substr(colon + 1);
    if (!absl::SimpleAtoi(absl::string_view(port.data(), port.size()), &parsed.port)) return wrong;
    host = authority.substr(0, colon);
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  parsed.host = std::string(host);
  const bool good = !host.empty() && host.find('@') == std::string_view::npos && parsed.port > 0 && parsed.port < 65536;
  if (!good) return wrong;
  return parsed;
}

absl::StatusOr<int> Post(const HttpPost& post, absl::Duration timeout) {
  // Destroyed after the exchange, with what is still under way.
  asio::io_context io{1};
  Exchange exchange(io, post);
  exchange.Start();
  io.run_for(absl::ToChronoNanoseconds(timeout));
  return exchange.TakeOutcome();
}

bool IsPublicAddress(const std::string& address) {
  error_code error;
  const asio::ip::address parsed = asio::ip::make_address(address, error);
  return !error && IsPublic(parsed);
}

}  // namespace loupe
