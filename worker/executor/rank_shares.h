// What the ranks of a trial share out beside its steps: pictures to sample, pictures to embed, the validation loss.
// Every function is a collective: all ranks call it alike, and rank 0 alone gets the result. Whole parts of the size
// that one process would compute together go to one rank each, and what they give is put in the order of the pictures:
// from the same trained values the results are those of one process, byte for byte, with any number of ranks. A rank
// without a part of its own waits.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "common/settings/settings.h"
#include "worker/executor/rank_team.h"
#include "worker/io/image.h"
#include "worker/ranks/rank_group.h"
#include "worker/tasks/picture_work.h"
#include "worker/tasks/shared_inputs.h"
#include "worker/train/validation.h"

namespace loupe::worker::executor {

// Each throws NotFinite on rank 0, whichever rank met it; the others go on, as rank 0 knows what that means.
std::vector<io::Image> SampleAmongRanks(ranks::RankGroup& group, tasks::SharedInputs& inputs,
                                        const settings::Settings& settings, const tasks::PictureOrder& order,
                                        const sampling::SampleProgress& progress);
// `images`: on rank 0. `size`: what is the same on all.
torch::Tensor EmbedAmongRanks(ranks::RankGroup& group, tasks::SharedInputs& inputs, const settings::Settings& settings,
                              const PicturesToEmbed& size, const std::vector<io::Image>& images);
double ValidateAmongRanks(ranks::RankGroup& group, base::BaseModel& base, const train::ValidationRows& rows);

// Rank 0's: announces, and takes its own share. The team and what it is given outlive it.
class RankedPictures : public tasks::PictureHelp {
 public:
  RankedPictures(RankTeam& team, tasks::SharedInputs& inputs, const settings::Settings& settings)
      : team_(team), inputs_(inputs), settings_(settings) {}
  std::vector<io::Image> Sample(const tasks::PictureOrder& order, const sampling::SampleProgress& progress) override;
  torch::Tensor Embed(const std::string& network, const std::vector<io::Image>& images) override;

 private:
  RankTeam& team_;
  tasks::SharedInputs& inputs_;
  const settings::Settings& settings_;
};

}  // namespace loupe::worker::executor
