// Reads the report's HTML back: enough of a parser to check that it is well formed and to find what it shows.
#pragma once

#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace loupe::analysis::report {

struct Element {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::vector<std::unique_ptr<Element>> children;  // text is a child with an empty name
  std::string text;

  std::string Attribute(const std::string& key) const {
    const auto found = attributes.find(key);
    return found == attributes.end() ? "" : found->second;
  }
  // All text within, tooltips (<title> in figures) left out.
  std::string Text() const {
    if (name.empty()) return text;
    std::string out;
    for (const auto& child : children) {
      if (child->name != "title") out += child->Text();
    }
    return out;
  }
  void Find(const std::string& element, std::vector<const Element*>& out) const {
    for (const auto& child : children) {
      if (child->name == element) out.push_back(child.get());
      child->Find(element, out);
    }
  }
  std::vector<const Element*> All(const std::string& element) const {
    std::vector<const Element*> out;
    Find(element, out);
    return out;
  }
  const Element* ById(const std::string& id) const {
    for (const auto& child : children) {
      if (child->Attribute("id") == id) return child.get();
      if (const Element* found = child->ById(id)) return found;
    }
    return nullptr;
  }
  // Rows of a table's body as texts, the row heading first.
  std::vector<std::vector<std::string>> TableRows() const {
    std::vector<std::vector<std::string>> rows;
    for (const Element* body : All("tbody")) {
      for (const Element* row : body->All("tr")) {
        rows.emplace_back();
        for (const auto& cell : row->children) {
          if (cell->name == "th" || cell->name == "td") rows.back().push_back(cell->Text());
        }
      }
    }
    return rows;
  }
};

inline std::string Unescape(std::string_view text) {
  static const std::map<std::string, std::string> kEntities = {
      {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&#39;", "'"}};
  std::string out;
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '&') {
      out += text[i++];
      continue;
    }
    const size_t end = text.find(';', i);
    if (end == std::string_view::npos) throw std::runtime_error("a bare & in the text");
    const auto found = kEntities.find(std::string(text.substr(i, end + 1 - i)));
    if (found == kEntities.end())
      throw std::runtime_error("unknown entity " + std::string(text.substr(i, end + 1 - i)));
    out += found->second;
    i = end + 1;
  }
  return out;
}

// Throws std::runtime_error where the markup is not well formed (unclosed or crossing elements, stray < or &).
inline std::unique_ptr<Element> ParseMarkup(std::string_view html) {
  auto root = std::make_unique<Element>();
  root->name = "#root";
  std::vector<Element*> open = {root.get()};
  size_t at = 0;
  while (at < html.size()) {
    if (html[at] != '<') {
      const size_t end = std::min(html.find('<', at), html.size());
      auto text = std::make_unique<Element>();
      const bool raw = open.back()->name == "style";
      text->text = raw ? std::string(html.substr(at, end - at)) : Unescape(html.substr(at, end - at));
      open.back()->children.push_back(std::move(text));
      at = end;
      continue;
    }
    const size_t end = html.find('>', at);
    if (end == std::string_view::npos) throw std::runtime_error("unclosed tag");
    std::string_view tag = html.substr(at + 1, end - at - 1);
    at = end + 1;
    if (tag.starts_with("!DOCTYPE")) continue;
    if (tag.starts_with("/")) {
      if (open.back()->name != tag.substr(1)) {
        throw std::runtime_error("</" + std::string(tag.substr(1)) + "> closes <" + open.back()->name + ">");
      }
      open.pop_back();
      continue;
    }
    const bool closed = tag.ends_with("/");
    if (closed) tag.remove_suffix(1);
    auto element = std::make_unique<Element>();
    const size_t name_end = std::min(tag.find(' '), tag.size());
    element->name = std::string(tag.substr(0, name_end));
    for (size_t i = name_end; i < tag.size();) {
      i = tag.find_first_not_of(" \n", i);
      if (i == std::string_view::npos) break;
      const size_t equals = tag.find("=\"", i),
                   close = equals == std::string_view::npos ? equals : tag.find('"', equals + 2);
      if (close == std::string_view::npos) throw std::runtime_error("bad attribute in <" + std::string(tag) + ">");
      element->attributes[std::string(tag.substr(i, equals - i))] =
          Unescape(tag.substr(equals + 2, close - equals - 2));
      i = close + 1;
    }
    const bool is_void = element->name == "meta" || element->name == "img" || element->name == "br";
    Element* added = element.get();
    open.back()->children.push_back(std::move(element));
    if (!closed && !is_void) open.push_back(added);
  }
  if (open.size() != 1) throw std::runtime_error("<" + open.back()->name + "> is never closed");
  return root;
}

}  // namespace loupe::analysis::report
