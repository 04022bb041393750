/* SPDX-License-Identifier: Apache-2.0
 *
 * The statistics of a plane: which channels share a table, and the tables. Integers only, so that every machine chooses
 * the same. Private to compress.
 */
#ifndef KVT_RANS_MODEL_H
#define KVT_RANS_MODEL_H

#include "compress/exponent.h"

/* Frequencies of symbols counted at most 2^22 times in all: sum 256, none above 255. What is rarer than a quarter
 * of 1/256 goes to the escape, which always has a frequency. */
void kvt_rans_normalise(const uint32_t counts[KVT_RANS_SYMBOLS], uint8_t freq[KVT_RANS_SYMBOLS]);

/* Classes for the channels (room->assigned, and in the tags) and model->freq, from room->counts of `tokens` tokens. */
void kvt_rans_choose(const kvt_exponent_ops *ops, kvt_exponent_room *room, uint32_t tokens, uint32_t classes);

/* The rest of a model from its frequencies, which are valid: what encoding needs, or what decoding needs. */
void kvt_rans_model_encoding(kvt_rans_model *model, uint32_t classes);
void kvt_rans_model_decoding(kvt_rans_model *model, uint32_t classes);

/* Tables in a body: for each class the frequencies of the symbols with sign 0 below `levels`, then those with sign 1,
 * then the escape's. read is false when a table's sum is not 256. */
static inline uint32_t kvt_rans_table_bytes(uint32_t classes, uint32_t levels) { return classes * (4 * levels + 1); }
uint32_t kvt_rans_levels(const kvt_rans_model *model, uint32_t classes);
void kvt_rans_tables_write(const kvt_rans_model *model, uint32_t classes, uint32_t levels, uint8_t *to);
bool kvt_rans_tables_read(const uint8_t *from, uint32_t classes, uint32_t levels, kvt_rans_model *model);

#endif
