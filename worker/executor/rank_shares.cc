#include "worker/executor/rank_shares.h"

#include <torch/utils.h>

#include <algorithm>
#include <exception>
#include <string>

#include "fmt/format.h"
#include "worker/runtime/finite.h"
#include "worker/tasks/tensor_conversion.h"

namespace loupe::worker::executor {
namespace {

// How many of `count` each rank has, by whole parts.
std::vector<int64_t> CountByRank(int64_t count, int64_t part, int ranks) {
  const int64_t parts = (count + part - 1) / part;
  std::vector<int64_t> counts;
  for (int rank = 0; rank < ranks; ++rank) {
    const runtime::RowShare share = runtime::ShareOf(parts, rank, ranks);
    counts.push_back(std::min(count, (share.first + share.count) * part) - std::min(count, share.first * part));
  }
  return counts;
}

int64_t FirstOf(const std::vector<int64_t>& counts, int rank) {
  int64_t first = 0;
  for (int before = 0; before < rank; ++before) first += counts[static_cast<size_t>(before)];
  return first;
}

// Runs this rank's share. False, on a rank other than 0, where the share of any rank is not finite; rank 0 throws then.
template <typename Work>
bool AllFinite(ranks::RankGroup& group, const Work& work) {
  std::exception_ptr bad;
  try {
    work();
  } catch (const runtime::NotFinite&) {
    bad = std::current_exception();
  }
  const torch::Tensor failed = torch::tensor(bad ? 1.0 : 0.0, torch::kFloat64);
  group.SumOnCpu(failed);
  if (failed.item<double>() == 0) return true;
  if (group.rank() != 0) return false;
  if (bad) std::rethrow_exception(bad);
  throw runtime::NotFinite("what another rank computed is not finite: its log says what");
}

torch::Tensor NoPictures() { return torch::empty({0, 1, 1, 3}, torch::kUInt8); }

}  // namespace

std::vector<io::Image> SampleAmongRanks(ranks::RankGroup& group, tasks::SharedInputs& inputs,
                                        const settings::Settings& settings, const tasks::PictureOrder& order,
                                        const sampling::SampleProgress& progress) {
  const std::vector<int64_t> counts = CountByRank(order.count, tasks::SampleOptionsFrom(settings).batch, group.ranks());
  const int64_t own = counts[static_cast<size_t>(group.rank())];
  torch::Tensor pictures = NoPictures();
  const bool finite = AllFinite(group, [&] {
    if (own == 0) return;
    pictures =
        tasks::TensorFromImages(inputs.SampleHere(settings, order, FirstOf(counts, group.rank()), own, progress));
  });
  if (!finite) return {};
  const torch::Tensor all = group.GatherRows(pictures, counts);
  return group.rank() == 0 ? tasks::ImagesFromTensor(all) : std::vector<io::Image>();
}

torch::Tensor EmbedAmongRanks(ranks::RankGroup& group, tasks::SharedInputs& inputs, const settings::Settings& settings,
                              const PicturesToEmbed& size, const std::vector<io::Image>& images) {
  const std::vector<int64_t> counts = CountByRank(size.count, tasks::SharedInputs::PartOf(size.network), group.ranks());
  const torch::Tensor pictures = group.ScatterRows(group.rank() == 0 ? tasks::TensorFromImages(images) : NoPictures(),
                                                   {size.height, size.width, 3}, counts);
  torch::Tensor features = torch::empty({0, 1});
  const bool finite = AllFinite(group, [&] {
    if (pictures.size(0) == 0) return;
    features = inputs.EmbedHere(settings, size.network, tasks::ImagesFromTensor(pictures)).contiguous();
  });
  return finite ? group.GatherRows(features, counts) : torch::Tensor();
}

double ValidateAmongRanks(ranks::RankGroup& group, base::BaseModel& base, const train::ValidationRows& rows) {
  const std::vector<int64_t> counts = CountByRank(train::ValidationParts(rows), 1, group.ranks());
  const int64_t own = counts[static_cast<size_t>(group.rank())];
  const torch::Tensor sums =
      torch::tensor(train::ValidationSums(base, rows, FirstOf(counts, group.rank()), own), torch::kFloat64);
  const torch::Tensor all = group.GatherRows(sums, counts);
  if (group.rank() != 0) return 0;
  const auto* first = all.const_data_ptr<double>();
  return train::ValidationLossFrom({first, first + all.numel()}, rows);
}

std::vector<io::Image> RankedPictures::Sample(const tasks::PictureOrder& order,
                                              const sampling::SampleProgress& progress) {
  team_.Announce({.kind = RankCommand::Kind::kSample, .order = order});
  const sampling::SampleProgress watching = [&](int64_t done, int64_t total) {
    team_.CheckOthers();
    if (progress) progress(done, total);
  };
  return SampleAmongRanks(team_.group(), inputs_, settings_, order, watching);
}

torch::Tensor RankedPictures::Embed(const std::string& network, const std::vector<io::Image>& images) {
  const bool one_part = static_cast<int64_t>(images.size()) <= tasks::SharedInputs::PartOf(network);
  const bool alike = std::all_of(images.begin(), images.end(), [&](const io::Image& image) {
    return image.width == images.front().width && image.height == images.front().height;
  });
  if (one_part || !alike) return inputs_.EmbedHere(settings_, network, images);
  const PicturesToEmbed size{.network = network,
                             .count = static_cast<int64_t>(images.size()),
                             .height = images.front().height,
                             .width = images.front().width};
  team_.Announce({.kind = RankCommand::Kind::kEmbed, .embed = size});
  return EmbedAmongRanks(team_.group(), inputs_, settings_, size, images);
}

}  // namespace loupe::worker::executor
