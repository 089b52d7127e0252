"""The safeguards of "each event counts once", each broken on purpose: what is edited, and which test must fail then.

A mutant: (name, safeguard, test, [(file, old, new), ...]). `old` must stand in the file exactly once: an edit that no longer
applies is a failure of tests/mutants/run, not a mutant that is caught. Tests are those of TESTS; the quick ones need no
server and no more than seconds. A test of target weir is one of pytest, run with that binary.
"""

TESTS = {
    # name: (target to build, arguments, quick)
    "simulation": ("simulation", ["--seconds", "20"], True),
    "undone": ("simulation", ["--case", "undone"], True),
    "lost": ("simulation", ["--case", "lost"], True),
    "lowered": ("simulation", ["--case", "lowered"], True),
    "lane": ("unit_aggregator_test_lane", [], True),
    "seen": ("unit_aggregator_test_seen", [], True),
    "store": ("component_test_window_store", ["--filter", "window_store*/@(an_old_owner_writes_nothing|"
              "an_unexpected_offset_writes_nothing|the_same_cut_again_is_harmless|rivals_for_a_lane_lose_and_double_nothing|"
              "a_change_between_read_and_finish_stays_on_the_list|an_epoch_that_was_lost_is_not_given_out_again|"
              "a_redis_that_went_back_in_time_is_noticed)"], False),
    "ledger": ("component_test_ledger", [], False),
    "lanes": ("component_test_lanes", [], False),
    "source_gaps": ("component_test_source_gaps", [], False),
    "quarantine": ("component_test_quarantine_kafka", ["--filter", "quarantine_kafka/refused*"], False),
    "invoices": ("weir", ["tests/system/test_invoices.py", "-k", "nothing_of_an_invoice_can_be_changed"], False),
}

MEMORY, LANE, WORKER, WRITER = "aggregator/store_memory.c", "aggregator/lane.c", "cli/worker.c", "cli/writer.c"
LANES, ROUND = "cli/worker_lanes.c", "cli/rater_round.c"
REDIS, RATE, SETTLE = "aggregator/store_redis.c", "rater/rate.c", "rater/settle.c"
QUARANTINE = "ingest/quarantine_kafka.c"
INVOICES = "schemas/postgres/0016_invoices.sql"

MUTANTS = [
    # 1. the lane cut
    ("no_epoch_check", "a cut of an earlier owner is refused", "simulation",
     [(MEMORY, "if (!lane || lane->state.epoch != cut->state.epoch || lane->state.next_offset != cut->expected_offset)",
       "if (!lane || lane->state.next_offset != cut->expected_offset)"),
      (MEMORY, "lane->state.epoch == cut->state.epoch && lane->state.next_offset == cut->state.next_offset",
       "lane->state.next_offset == cut->state.next_offset")]),
    ("no_offset_check", "a cut that expects another offset is refused", "simulation",
     [(MEMORY, "if (!lane || lane->state.epoch != cut->state.epoch || lane->state.next_offset != cut->expected_offset)",
       "if (!lane || lane->state.epoch != cut->state.epoch)")]),
    ("totals_without_offset", "totals and next offset are one write", "simulation",
     [(MEMORY, "    lane->state = cut->state;\n",
       "    int64_t old_offset = lane->state.next_offset;\n    lane->state = cut->state;\n"
       "    lane->state.next_offset = cut->window_count ? old_offset : cut->state.next_offset;\n")]),
    ("totals_as_increments", "a cut holds absolute totals, which may be written and loaded again", "simulation",
     [("aggregator/window_table.c", "        window->flags &= ~(uint32_t)IS_CHANGED;\n    }\n    table->changed_count = 0;",
       "        window->flags &= ~(uint32_t)IS_CHANGED;\n        if (!window_kept(window) && !window->unique && !window->value.e12)\n"
       "            window->events = window->retracted = 0;\n    }\n    table->changed_count = 0;"),
      (MEMORY, "        entry->window.total = window->window.total;\n",
       "        struct weir_window_total *total = &entry->window.total;\n        const struct weir_window_total *more = &window->window.total;\n"
       "        if (more->value.e12)\n            *total = *more;\n        total->events += more->value.e12 ? 0 : more->events;\n"
       "        total->retracted += more->value.e12 ? 0 : more->retracted;\n")]),
    ("ids_not_in_the_cut", "ids are stored with the totals that they were counted in", "simulation",
     [(MEMORY, "            add_ids(lane, &cut->ids[i]);", "            (void)add_ids;")]),
    ("unique_not_in_the_cut", "the distinct texts of a window are stored with its total", "simulation",
     [(LANE, "    copy->unique = add_bytes(sealed, window->unique);", "    copy->unique = add_bytes(sealed, (struct weir_slice){0});")]),
    ("epochs_repeat", "no two takes make one epoch, also when the store falls back in between", "store",
     [("aggregator/epoch.c", "    return 1 + (uint64_t)(part >> 1);", "    return 1 + (uint64_t)(part >> 1) * 0;")]),
    ("name_is_a_view", "a sealed cut outlives its lane", "lane",
     [(LANE, ".lane = add_bytes(sealed, weir_lane_name(lane))", ".lane = weir_lane_name(lane)"),
      (LANE, "    place_bytes(sealed, &sealed->cut.lane);\n", "")]),
    ("cut_lost_again", "the answer to a cut that is there already is yes", "store",
     [(MEMORY, "        && cut->expected_offset != cut->state.next_offset)\n        return WEIR_OK;",
       "        && cut->expected_offset != cut->state.next_offset && cut->window_count > 1000000)\n        return WEIR_OK;")]),

    # 2. the worker
    ("no_seek_after_reload", "a lane that was taken again is read again from its offset", "simulation",
     [(LANES, "        if (status == WEIR_OK)\n            status = worker->source->ops->seek(worker->source, owned->partition, "
       "first_offset(owned), reterr);\n", "")]),
    ("fenced_lane_goes_on", "a lane whose cut was refused is dropped", "simulation",
     [(LANES, "    owned->lane = weir_lane_free(owned->lane);\n    owned->is_fenced = true;\n", "    (void)owned;\n")]),
    ("old_messages_taken", "a message that a cut covers is not taken again", "simulation",
     [(WORKER, "    if (message->sequence < owned->wanted_from)\n", "    if (message->sequence < 0)\n")]),
    ("no_flush_on_revoke", "a lane that is handed over is written first", "simulation",
     [(LANES, "bool is_whole = owned->lane && weir_worker_settle_lane(worker, owned);", "bool is_whole = owned->lane && worker->has_failed && weir_worker_settle_lane(worker, owned);")]),
    ("writes_a_lost_lane", "a lane that is lost is dropped without a write", "simulation",
     [(LANES, "    if (lost)\n        owned->lane = weir_lane_free(owned->lane);\n", "    (void)lost;\n")]),
    ("overtaken_take_ends_the_worker", "a take that another one overtakes is tried again", "simulation",
     [(LANES, "return status == WEIR_FENCED ? WEIR_RETRY : status;", "return status;")]),
    ("quiet_lane_does_not_look", "a lane without news looks whether the store went back", "simulation",
     [(WORKER, "bool must_look = owned->in_flight == 0 && now", "bool must_look = owned->in_flight != 0 && now")]),
    ("quarantine_after_the_cut", "quarantine is durable before the cut that passes it", "simulation",
     [(WRITER, "    if (flight->has_quarantined ||", "    if ((flight->has_quarantined && flight->sealed->cut.window_count > 1000000) ||")]),
    ("refused_record_dropped", "a record that the quarantine topic does not take is put again", "quarantine",
     [(QUARANTINE, "    if (!message->err)\n        return;", "    if (message->err != RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)\n        return;")]),
    ("seals_after_a_failure", "nothing is sealed of a lane that is past a message which stands nowhere", "simulation",
     [(WORKER, "        if (status == WEIR_OK) {\n            tend_lanes(worker, false);", "        tend_lanes(worker, false);\n        if (status == WEIR_OK) {")]),
    ("lost_answer_taken_for_yes", "a cut is tried again until its answer is known", "simulation",
     [(WRITER, "    if (status == WEIR_RETRY || status == WEIR_AGAIN)\n        weir_outage_begin(&writer->gauges->store, ",
       "    if (status == WEIR_RETRY)\n        return WEIR_OK;\n    if (status == WEIR_AGAIN)\n"
       "        weir_outage_begin(&writer->gauges->store, ")]),

    # 3. ids and time
    ("ids_forgotten_early", "an id is known for as long as its resend is accepted", "lane",
     [(LANE, "(lane->state.watermark - lane->settings.retention) / WEIR_MINUTE", "(lane->state.watermark - lane->settings.retention / 8) / WEIR_MINUTE")]),
    ("bucket_named_by_its_beginning", "ids of longer buckets than now's are not forgotten early", "lane",
     [(LANE, "return (time / WEIR_MINUTE / length + 1) * length;", "return time / WEIR_MINUTE / length * length;")]),
    ("buckets_go_back", "of several records of an id the last one holds, whatever the retention was", "lane",
     [(LANE, "    if (bucket > lane->last_bucket)\n        lane->last_bucket = bucket;\n    return lane->last_bucket;\n", "    return bucket;\n")]),
    ("bucket_forgotten_early", "only buckets below the one named are forgotten", "seen",
     [("aggregator/seen.c", "is_kept[i] = seen->buckets[i] >= bucket;", "is_kept[i] = seen->buckets[i] > bucket;")]),
    ("ids_not_loaded", "a lane that is taken knows its stored ids", "simulation",
     [(LANE, "at < ids.length && !lane->is_loading_full; at", "at < ids.length && !lane->is_loading_full && !lane; at")]),
    ("no_content_check", "the same id with other content is a conflict, not a duplicate", "simulation",
     [("aggregator/seen.c", "    if (record->content != (content & WEIR_SEEN_CONTENT_MASK))\n",
       "    if (record->content != (content & WEIR_SEEN_CONTENT_MASK) && !record->id_low)\n")]),
    ("nothing_is_too_late", "an event later than the lateness is refused: its id may be forgotten", "simulation",
     [(LANE, "if (!is_early && (lane->settings.keeps_all || time >= accepted_from(lane)))", "if (!is_early)")]),
    ("longer_lateness_accepts_the_forgotten", "a longer lateness accepts nothing for windows and ids that are gone", "lane",
     [(LANE, "return lane->state.forgotten > from && lane->state.forgotten > 0 ?", "return lane->state.forgotten > from && lane->state.forgotten < 0 ?")]),
    ("closed_too_early", "a window closes when the watermark has passed its end", "simulation",
     [("aggregator/window_table.c", "table->groups[table->closed_groups].end <= watermark;",
       "table->groups[table->closed_groups].end <= watermark + 2 * WEIR_MINUTE;")]),
    ("late_change_not_rated", "a closed window that changes is put on the list of work again", "simulation",
     [(MEMORY, "        if (window->is_closed)\n            add_work(lane, entry, token);",
       "        if (window->is_closed && entry->token == 0)\n            add_work(lane, entry, token);")]),

    ("admitted_not_known", "a lane that is taken knows what was admitted", "lane",
     [(LANE, "        && weir_seen_set(lane->seen, id, admitted, (uint32_t)bucket) == WEIR_OK)", "        && bucket >= 0 && admitted.effect)")]),
    ("admitted_forgotten_early", "what was admitted is known for as long as it would be accepted", "lane",
     [(LANE, "int64_t bucket = event->time > 0 ? bucket_of(lane, event->time) : 0;",
       "int64_t bucket = event->time > 0 ? bucket_of(lane, event->time - lane->settings.lateness / 2) : 0;")]),
    ("admitted_voided", "a retraction voids nothing of what was admitted", "lane",
     [(LANE, "    if (mark->state == WEIR_ID_COUNTED_UNKNOWN && mark->effect == EFFECT_ADMITTED)\n",
       "    if (mark->state == WEIR_ID_COUNTED_UNKNOWN && mark->effect == EFFECT_ADMITTED)\n        return WEIR_OUTCOME_DUPLICATE;\n"
       "    if (mark->state == WEIR_ID_COUNTED_UNKNOWN && mark->effect == EFFECT_ADMITTED)\n")]),

    ("retraction_of_anything", "a retraction takes out only what was counted as it reads", "lane",
     [(LANE, "    if (!is_same_effect(mark, hashes))\n", "    if (!is_same_effect(mark, hashes) && count == 0)\n")]),
    ("void_not_stored", "a void id is void also when its lane was taken again", "lane",
     [(LANE, "    record_id(lane, hashes->id, &mark, bucket);\n",
       "    if (state != WEIR_ID_VOID)\n        record_id(lane, hashes->id, &mark, bucket);\n")]),
    ("ahead_is_forgotten", "an event that was retracted before it came counts nothing", "lane",
     [(LANE, "event->is_retraction ? WEIR_ID_AHEAD : WEIR_ID_COUNTED", "event->is_retraction ? WEIR_ID_COUNTED : WEIR_ID_COUNTED")]),
    ("kept_not_stored", "the single events of a retractable window are stored with its total", "lane",
     [("aggregator/window_table.c", "cut.unique = weir_kept_new_units(window->kept);", "cut.unique = (struct weir_slice){0};")]),

    # 4. the rater
    ("fewer_events_are_stale", "a retraction makes a newer total, though one of fewer events", "ledger",
     [("common/model/window.h", "return weir_window_total_changes(a) < weir_window_total_changes(b)\n           ||", "return a->events < b->events\n           ||")]),
    ("lost_events_not_seen", "more retractions do not make up for events that were lost", "lanes",
     [("common/model/window.h", "\n           || a->events + a->retracted < b->events + b->retracted;", ";")]),
    ("refusal_stops_all", "a window that cannot be rated holds back no other", "lanes",
     [(RATE, "return may_refuse(rater) ? refuse(rater, target, lane, reterr) : status;",
       "return may_refuse(rater) && rater->counts.windows == 0 ? refuse(rater, target, lane, reterr) : status;")]),
    ("refused_period_stops_all", "a period that cannot be closed holds back no other", "lanes",
     [(SETTLE, "    if (!rater->ledger->ops->keeps_state)\n        return status;\n    take_back", "    if (status != WEIR_OK)\n        return status;\n    take_back")]),
    ("half_a_period", "what was done of a period that cannot be closed is undone", "lanes",
     [(SETTLE, "    rater->item_count = item_count;\n    rater->charging.running = NULL;", "    (void)item_count;\n    rater->charging.running = NULL;")]),
    ("half_a_charge", "what was done of a window that cannot be rated is undone", "lanes",
     [(RATE, "    *target->running = running;\n    *target->period = period;\n", "    (void)running, (void)period;\n")]),
    ("older_held_replaces", "an older total does not replace the one that is held", "lanes",
     [(RATE, "(same_total(&lane->held, total) || weir_window_total_is_older(total, &lane->held))", "same_total(&lane->held, total)")]),
    ("word_before_the_row", "the word to lower is for a row that comes after it, too", "lanes",
     [("rater/postgres_held.c", "ORDER BY r.released_at DESC, r.gap DESC LIMIT 1", "AND r.released_at > h.held_at + interval '1 h' LIMIT 1")]),
    ("fold_not_again", "a period's maximum is found anew when an event was taken out of a window", "ledger",
     [("rater/totals.c", "before->events > 0 && weir_moves_back(aggregation, before, after)",
       "before->events > 0 && !rater && weir_moves_back(aggregation, before, after)")]),
    ("rest_of_a_batch_only", "a period is folded anew from all its windows, not from those of the batch", "ledger",
     [("rater/totals.c", "    if (!weir_total_merge(aggregation, &folded, &target->split->rest))\n        return false;\n", "")]),
    ("share_without_events", "a retraction that came by another partition than its event folds the whole period", "ledger",
     [(RATE, "        if (is_new(target->window)\n", "        if (!target->window || lane->total.events == 0\n"),
      ("rater/totals.c", "    weir_check(target->split->wants_rest || !rater->ledger->ops->keeps_state);\n", ""),
      (RATE, "static bool is_new(const", "__attribute__((unused)) static bool is_new(const")]),
    ("finish_without_token", "a window that changed while it was rated stays on the list", "simulation",
     [(MEMORY, "if (!entry || entry->work_place == 0 || entry->token != work[i].token)", "if (!entry || entry->work_place == 0)")]),
    ("finished_before_the_commit", "work is taken off the list after it was rated, not before", "simulation",
     [(ROUND, "    rated = await(rating, status == WEIR_OK ? reterr : NULL);\n    if (status == WEIR_OK)\n        status = rated;\n"
       "    return status == WEIR_OK ? finish_lot(rating, known, walk, away, reterr) : status;",
       "    status = finish_lot(rating, known, walk, away, reterr);\n    rated = await(rating, status == WEIR_OK ? reterr : NULL);\n"
       "    return status == WEIR_OK ? rated : status;")]),
    ("await_hears_one_thread", "what one thread of a rater could not commit stays on the list", "simulation",
     [("rater/threads.c", "        status = worse(status, share, reterr);", "        status = i == 0 ? worse(status, share, reterr) : status;")]),
    ("stale_rule_dropped", "an older total that came back lowers no bill", "simulation",
     [(RATE, "if (weir_window_total_is_older(total, &lane->total) && !may_lower(target, lane)) {",
       "if (weir_window_total_is_older(total, &lane->total) && !may_lower(target, lane) && !rater) {")]),
    ("rated_total_not_kept", "what was rated is kept, so that only the difference is billed", "simulation",
     [(RATE, "    lane->total = *total;\n", "")]),
    ("rated_window_not_written", "line items and rated windows are one transaction", "simulation",
     [(RATE, "    window->entry.is_dirty = true;\n    window->unpriced = target->unpriced;\n", "    window->unpriced = target->unpriced;\n")]),
    ("fees_charged_again", "a period's fees are charged once", "simulation",
     [("rater/settle.c", "        period->is_advance_charged = true;\n", "")]),
    ("true_up_not_corrected", "late usage in a closed period changes its true-up", "simulation",
     [(RATE, "if (target->unpriced == WEIR_UNPRICED_PRICED && target->period->is_closed\n",
       "if (target->unpriced == WEIR_UNPRICED_PRICED && !target->period\n")]),

    # 5. what only real servers show
    ("redis_no_epoch_check", "Redis: a cut of an earlier owner is refused", "store",
     [(REDIS, "if (epoch != cut->state.epoch || offset != cut->expected_offset || number != lane->cut_number)",
       "if (offset != cut->expected_offset || number != lane->cut_number)"),
      (REDIS, "if (epoch == cut->state.epoch && offset == cut->state.next_offset", "if (offset == cut->state.next_offset")]),
    ("redis_no_offset_check", "Redis: a cut that expects another offset is refused", "store",
     [(REDIS, "if (epoch != cut->state.epoch || offset != cut->expected_offset || number != lane->cut_number)",
       "if (epoch != cut->state.epoch || number != lane->cut_number)")]),
    ("redis_no_cut_number_check", "Redis: an older cut at the same offset is noticed", "store",
     [(REDIS, "if (epoch != cut->state.epoch || offset != cut->expected_offset || number != lane->cut_number)",
       "if (epoch != cut->state.epoch || offset != cut->expected_offset)")]),
    ("redis_no_watch", "Redis: a lane that is taken between look and write is not written", "store",
     [("aggregator/store_redis_encode.c", 'begin(&store->probe, "WATCH", 1);', 'begin(&store->probe, "EXISTS", 1);')]),
    ("redis_finish_without_token", "Redis: a window that changed while it was rated stays on the list", "store",
     [("schemas/redis/finish_work.lua", "        if stored[n] == tokens[n] then", "        if stored[n] then")]),
    ("postgres_no_customer_locks", "PostgreSQL: two raters never rate one customer at the same time", "ledger",
     [("rater/ledger_postgres.c", "        status = weir_postgres_lock_customers(ledger, state, reterr);",
       "        (void)weir_postgres_lock_customers;")]),
    ("postgres_two_transactions", "PostgreSQL: line items and rated windows are one transaction", "ledger",
     [("rater/postgres_write.c", "enum weir_status weir_postgres_write_state(struct weir_postgres_ledger *ledger, struct weir_state *state,\n"
       "                                           struct weir_error *reterr)\n{\n",
       "enum weir_status weir_postgres_write_state(struct weir_postgres_ledger *ledger, struct weir_state *state,\n"
       "                                           struct weir_error *reterr)\n{\n"
       "    if (weir_postgres_run(ledger->connection, \"COMMIT; BEGIN\", \"splitting\", reterr) != WEIR_OK)\n"
       "        return WEIR_RETRY;\n")]),

    # gaps (docs/gaps.md)
    ("nothing_is_held", "a window in an open gap is not rated", "lanes",
     [(RATE, "    if (is_in_gap(target)) {\n        hold(rater, target, lane);\n",
       "    if (is_in_gap(target) && rater->counts.windows == 0) {\n        hold(rater, target, lane);\n")]),
    ("gap_not_kept", "what Kafka lost is noted in the lane's cut", "lost",
     [(LANES, "    log_gap(owned, weir_lane_add_gap(owned->lane, kind, next_offset, weir_time_now()));\n",
       "    (void)log_gap, (void)next_offset;\n")]),
    ("gap_not_noted_before_rating", "a lane's gaps are noted between reading its work and rating it", "lost",
     [(ROUND, "    if (status == WEIR_OK)\n        status = note_lane(rating, known, &walk->is_same, reterr);\n    walk->lots++;\n",
       "    if (status == WEIR_OK && lot->count == 0)\n        status = note_lane(rating, known, &walk->is_same, reterr);\n"
       "    walk->lots++;\n")]),
    ("settled_in_a_gap", "a period that an open gap concerns is not settled", "lost",
     [("cli/rater_lanes.c", "        status = weir_rating_end_at_gaps(rating, &horizon.ended, reterr);\n"
       "    if (rating->first_gap < horizon.ended)\n", "        status = WEIR_OK;\n    if (rating->first_gap < 0)\n")]),
    ("gap_spans_too_little", "a gap spans all times that the lane would still have taken", "lost",
     [(LANE, "    int64_t earliest = is_any_age ? 0 : accepted_from(lane);\n",
       "    int64_t earliest = is_any_age ? 0 : lane->state.watermark;\n")]),
    ("held_for_ever", "a window that was let go is off the list of those that are held", "lost",
     [(RATE, "    if (lane->held_number)\n        lane->held_change = WEIR_HELD_LET_GO;\n    return true;\n", "    return true;\n")]),
    ("word_does_not_lower", "an operator's word to lower does", "lowered",
     [(RATE, "(lane->held_number && lane->may_lower);", "(lane->held_number && lane->may_lower && lane->is_refused);")]),
    ("more_events_are_not_held", "more events than were rated are not the truth while some are missing", "lanes",
     [(RATE, "    if (lane->revision > 0 && same_total(&lane->total, total)) {\n        rater->counts.unchanged++;\n        if (lane->held_number)",
       "    if (lane->revision > 0 && !weir_window_total_is_older(total, &lane->total)) {\n        rater->counts.unchanged++;\n        if (lane->held_number)")]),
    ("lowers_without_a_word", "what was rated is lowered only by an operator's word", "lanes",
     [(RATE, "(lane->held_number && lane->may_lower);", "lane->held_number;")]),
    ("word_for_another_total", "two raters let a held window go once", "lanes",
     [(RATE, "            ? target->from->held_number != lane->held_number", "            ? target->from->held_number == 0")]),
    ("emptied_is_a_first_start", "an emptied store is told from a first start", "lanes",
     [("schemas/postgres/0008_empty_lanes.sql", "g.kind <> 'nothing_stored' OR known.highest_offset >= 0", "g.kind <> 'nothing_stored'")]),
    ("topic_not_compared", "a topic made anew is noticed, however long it is", "source_gaps",
     [("ingest/source_kafka_gaps.c", "    if (partition->stamp >= 0 && stamp != partition->stamp)",
       "    if (partition->stamp >= 0 && stamp != partition->stamp && offset < 0)")]),

    # invoices (docs/invoices.md)
    ("invoice_numbers_with_gaps", "a number refers to the one before it", "invoices",
     [(INVOICES, "    UNIQUE (invoice, document),\n    FOREIGN KEY (series, previous) REFERENCES weir.invoice_numbers (series, number)\n",
       "    UNIQUE (invoice, document)\n")]),
    ("line_items_on_two_invoices", "no line item is on two invoices", "invoices",
     [(INVOICES, "int8range(after_item, through_item, '(]') WITH &&) WHERE (replaces IS NULL)",
       "int8range(after_item, through_item, '(]') WITH &&) WHERE (false)")]),
    ("line_items_of_a_valid_invoice", "line items are taken again only from a void invoice", "invoices",
     [(INVOICES, "    replaces bigint REFERENCES weir.invoice_voids,\n    CHECK (after_item < through_item),",
       "    replaces bigint,\n    CHECK (after_item < through_item),")]),
    ("invoice_is_not_its_lines", "an invoice is the sum of its lines", "invoices",
     [(INVOICES, "IF sums.amount <> NEW.amount OR sums.total <> NEW.total THEN", "IF false THEN")]),
    ("invoices_can_be_deleted", "nothing of an invoice changes", "invoices",
     [(INVOICES, "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON weir.%I", "CREATE TRIGGER append_only BEFORE UPDATE ON weir.%I")]),
]
